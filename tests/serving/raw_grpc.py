"""gRPC by the byte: HTTP/2 frames (RFC 9113), heads in HPACK's plainest form (RFC 7541, 6.2.2), messages in neither."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Sequence

Address = tuple[str, int]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM = ACK = 1
END_HEADERS = 4
FRAME_BYTES = 16384
"""The largest frame that every receiver takes."""
_WINDOW = 65535
_INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def hello() -> bytes:
    """What every connection begins with; the window for answers is as large as it can be."""
    return PREFACE + frame(SETTINGS, 0, 0, b"") + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1 - _WINDOW))


def head(path: str, *others: tuple[bytes, bytes]) -> bytes:
    """The header block of a call."""
    pairs = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"test"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *others,
    ]
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in pairs)


def _text(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes([size]) + value
    size -= 127
    digits = []
    while size >= 128:
        digits.append(size % 128 + 128)
        size //= 128
    return bytes([127, *digits, size]) + value


def prefixed(message: bytes, size: int | None = None, compressed: int = 0) -> bytes:
    """A message as it goes into DATA frames; ``size`` is what it says of its size, when that is not the truth."""
    return bytes([compressed]) + struct.pack(">I", len(message) if size is None else size) + message


def call(stream: int, path: str, message: bytes, *others: tuple[bytes, bytes]) -> list[bytes]:
    """The frames of a call as they should be."""
    data = prefixed(message)
    pieces = [data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES)]
    bodies = [frame(DATA, END_STREAM if piece is pieces[-1] else 0, stream, piece) for piece in pieces]
    return [frame(HEADERS, END_HEADERS, stream, head(path, *others)), *bodies]


class Connection:
    """A client that keeps to the flow control of HTTP/2, as real ones do."""

    def __init__(self, address: Address, seconds: float = 30) -> None:
        self._socket = socket.create_connection(address, timeout=seconds)
        self._received = b""
        self._initial = _WINDOW
        self._used = 0
        self._granted = {0: _WINDOW}
        self.ended = False
        """Whether the server has answered or reset a stream, or closed the connection."""
        self._socket.sendall(hello())

    def send(self, data: bytes) -> None:
        """Send bytes; the server closing meanwhile is no error."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.ended = True

    def stream_data(self, stream: int, total: int, first: bytes) -> int:
        """Send ``total`` bytes on a stream, as far as the server wants them; returns how many it took."""
        taken = 0
        filler = bytes(FRAME_BYTES)
        while taken < total and not self.ended:
            room = min(self._granted[0], self._initial + self._granted.get(stream, 0) - self._used)
            if room <= 0:
                self.read()
                continue
            piece = first if taken == 0 else filler[: min(room, FRAME_BYTES, total - taken)]
            self.send(frame(DATA, 0, stream, piece))
            self._granted[0] -= len(piece)
            self._used += len(piece)
            taken += len(piece)
        return taken

    def finish(self, stream: int) -> None:
        """End a stream, and wait for its answer."""
        self.send(frame(DATA, END_STREAM, stream, b""))
        while not self.ended:
            self.read()

    def read(self) -> None:
        """Read what is there, at least one byte, and take in the frames that are complete."""
        try:
            piece = self._socket.recv(1 << 20)
        except OSError:
            piece = b""
        if not piece:
            self.ended = True
            return
        self._received += piece
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + size:
                return
            kind, flags = self._received[3], self._received[4]
            stream = int.from_bytes(self._received[5:9], "big")
            self._take(kind, flags, stream, self._received[9 : 9 + size])
            self._received = self._received[9 + size :]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at : at + 6])
                if name == _INITIAL_WINDOW_SIZE:
                    self._initial = value
            self.send(frame(SETTINGS, ACK, 0, b""))
        elif kind == WINDOW_UPDATE:
            self._granted[stream] = self._granted.get(stream, 0) + int.from_bytes(payload, "big")
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind in (RST_STREAM, GOAWAY) or (kind in (HEADERS, DATA) and flags & END_STREAM):
            self.ended = True

    def close(self) -> None:
        self._socket.close()


class Disturbances:
    """Connections whose calls are nearly right; the same ones for the same seed."""

    def __init__(self, seed: int, calls: Sequence[tuple[str, bytes]]) -> None:
        self._random = random.Random(seed)
        self._calls = calls

    def next(self, count: int) -> bytes:
        """A connection with so many calls, most of them disturbed in one of many ways."""
        frames = [piece for number in range(count) for piece in self._disturbed(2 * number + 1)]
        if self._random.random() < 0.1:
            self._random.shuffle(frames)
        start = hello() if self._random.random() < 0.95 else self._damaged(hello())
        return start + b"".join(frames)

    def _disturbed(self, stream: int) -> list[bytes]:
        pick = self._random
        path, message = pick.choice(self._calls)
        match pick.randrange(12):
            case 0:
                return call(stream, path, self._damaged(message))
            case 1:  # a size that is not the message's
                data = prefixed(message, pick.choice([0, 1, len(message) + 1, 2**31, 2**32 - 1]))
                return [call(stream, path, b"")[0], frame(DATA, END_STREAM, stream, data)]
            case 2:  # compressed, it says
                data = prefixed(message, compressed=pick.randint(1, 255))
                return [call(stream, path, b"")[0], frame(DATA, END_STREAM, stream, data)]
            case 3:  # no message, two, or the beginning of one
                body = pick.choice([b"", prefixed(message) * 2, prefixed(message)[:3], prefixed(message)[:-1]])
                return [call(stream, path, b"")[0], frame(DATA, END_STREAM, stream, body)]
            case 4:  # the client leaves
                return [call(stream, path, message)[0], frame(RST_STREAM, 0, stream, struct.pack(">I", 8))]
            case 5:  # a head that is damaged, or cut into many
                block = self._damaged(head(path))
                return [frame(HEADERS, END_HEADERS | END_STREAM, stream, block)]
            case 6:
                block = head(path)
                cuts = [block[at : at + 9] for at in range(0, len(block), 9)]
                rest = [frame(CONTINUATION, END_HEADERS if c is cuts[-1] else 0, stream, c) for c in cuts[1:]]
                return [frame(HEADERS, 0, stream, cuts[0]), *rest, *call(stream, path, message)[1:]]
            case 7:  # metadata and paths of all kinds
                key = pick.choice([b"grpc-timeout", b"x-bin", b"grpc-encoding", b"authorization", b"content-length"])
                value = pick.choice([b"", b"1n", b"99999999H", b"-1S", b"gzip", b"\xff\x00", b"a" * 5000])
                return call(stream, pick.choice([path, "", "/", "//", "/a/b", path + "x"]), message, (key, value))
            case 8:  # frames of the connection
                kind = pick.choice([SETTINGS, GOAWAY, WINDOW_UPDATE, PING, 2, 5, 200])
                payload = pick.choice([b"", b"\0" * 4, b"\0" * 6, b"\xff" * 6, b"\xff" * 8, pick.randbytes(12)])
                return [frame(kind, pick.randrange(256), pick.choice([0, stream]), payload)]
            case 9:  # any frame at all
                return [frame(pick.randrange(12), pick.randrange(256), pick.randrange(20), pick.randbytes(40))]
            case 10:
                return [self._damaged(piece) for piece in call(stream, path, message)]
            case _:
                return call(stream, path, message)

    def _damaged(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(self._random.randint(1, 6)):
            if damaged:
                damaged[self._random.randrange(len(damaged))] = self._random.randrange(256)
        return bytes(damaged[: self._random.randint(len(damaged) // 2, len(damaged))])


def disturb(address: Address, data: bytes, *, shut: bool, seconds: float = 0.5) -> bool:
    """Send a connection's bytes and a ping; whether the server answered that or closed, before it said nothing."""
    asked = b"\x01\x02\x03\x04\x05\x06\x07\x08"
    with socket.create_connection(address, timeout=30) as connection:
        try:
            connection.sendall(data + frame(PING, 0, 0, asked))
            if shut:
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(seconds)
            answer = b""
            while asked not in answer[-4096:] or shut:
                piece = connection.recv(65536)
                if not piece:
                    break
                answer += piece
        except TimeoutError:
            return False
        except OSError:  # it was closed while we sent
            return True
    return True

"""The few HTTP/2 frames that a client of one gRPC stream writes and reads (RFC 9113; RFC 7541 for the header block).

Header fields are literals that are neither indexed nor Huffman-coded, so nothing depends on what was sent before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 0x1, 0x1, 0x4
INITIAL_WINDOW_SIZE = 4
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def opening(path: str, authority: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """What a connection begins with: preface, settings, as much room for answers as there can be, and stream 1."""
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority), *headers]
    return b"".join(
        [
            PREFACE,
            frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, LARGEST_WINDOW)),
            frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - DEFAULT_WINDOW)),
            frame(HEADERS, END_HEADERS, 1, b"".join(_literal(name, value) for name, value in pairs)),
        ]
    )


def _literal(name: str, value: str) -> bytes:
    """A header field without indexing, with a literal name (RFC 7541, 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: str) -> bytes:
    data = text.encode("ascii")
    return _integer(len(data)) + data


def _integer(value: int) -> bytes:
    """An integer after a prefix of 7 bits (RFC 7541, 5.1)."""
    if value < 127:
        return bytes([value])
    out, value = [127], value - 127
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


class Frames:
    """Cuts what arrives into ``(kind, flags, stream, payload)``."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """The frames that are complete now."""
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        while end - at >= 9:
            size = (buffer[at] << 16) | (buffer[at + 1] << 8) | buffer[at + 2]
            if end - at < 9 + size:
                break
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & LARGEST_WINDOW
            yield buffer[at + 3], buffer[at + 4], stream, buffer[at + 9 : at + 9 + size]
            at += 9 + size
        self._rest = buffer[at:]

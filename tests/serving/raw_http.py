"""HTTP/1.1 by the byte: what no client library sends."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
from collections.abc import Iterable

Address = tuple[str, int]
TASK = b"/v1/tasks/text-classification"


def post(path: bytes, *headers: bytes, body: bytes = b"", kind: bytes = b"application/json") -> bytes:
    """A request with exactly these headers beside Host and Content-Type."""
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: test", b"Content-Type: " + kind, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def sized(path: bytes, body: bytes, kind: bytes = b"application/json") -> bytes:
    """A request as it should be."""
    return post(path, b"Content-Length: %d" % len(body), body=body, kind=kind)


def exchange(address: Address, data: bytes | Iterable[bytes], *, shut: bool = False, seconds: float = 30) -> bytes:
    """Send bytes, and return all that comes until the server closes the connection or says nothing for ``seconds``.

    A server that closes while we send is no error; what it said before is returned.
    """
    with socket.create_connection(address, timeout=seconds) as connection:
        with contextlib.suppress(OSError):
            for piece in [data] if isinstance(data, bytes) else data:
                connection.sendall(piece)
            if shut:
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


def status(answer: bytes) -> int:
    """The status of the first answer; 0 when there is none."""
    line = answer.partition(b"\r\n")[0].split(b" ")
    return int(line[1]) if len(line) > 1 and line[0].startswith(b"HTTP/") else 0


class KeptConnection:
    """A client that goes on with one connection for as long as the server leaves it open."""

    def __init__(self, address: Address, seconds: float = 30) -> None:
        self._address, self._seconds = address, seconds
        self._socket: socket.socket | None = None
        self.opened = 0
        """Connections so far."""

    def ask(self, request: bytes) -> int:
        """The status of the answer to a request whose length is right."""
        try:
            return self._ask(request)
        except (http.client.BadStatusLine, ConnectionError):  # closed just before, as happens to every client
            self.close()
            return self._ask(request)

    def _ask(self, request: bytes) -> int:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=self._seconds)
            self.opened += 1
        self._socket.sendall(request)
        answer = http.client.HTTPResponse(self._socket)
        answer.begin()
        answer.read()
        if answer.will_close:
            self.close()
        return answer.status

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


Body = tuple[bytes, bytes, bytes]
"""Path, body and content-type of a request."""


class Mutations:
    """Requests that are nearly right: cut, doubled, spliced and strewn with bytes; the same ones for the same seed.

    Half of them are mutated as a whole; in the others the body alone is, and its length is right, so that they get past
    the HTTP parser.
    """

    SPICE = (
        b"\r\n",
        b"\n",
        b"\0",
        b"\xff",
        b" ",
        b":",
        b"%",
        b"--b",
        b"{",
        b"[",
        b'"',
        b"chunked",
        b"-1",
        b"9" * 25,
        b"1e999",
    )

    def __init__(self, seed: int, corpus: list[bytes], bodies: list[Body]) -> None:
        self._random = random.Random(seed)
        self._corpus, self._bodies = corpus, bodies

    def next(self) -> tuple[bytes, bool]:
        """A request, and whether its head is right."""
        if self._random.random() < 0.5:
            return self._mutate(self._random.choice(self._corpus), self._corpus), False
        path, body, kind = self._random.choice(self._bodies)
        body = self._mutate(body, [each for _, each, _ in self._bodies])
        return sized(path, body, kind), True

    def _mutate(self, start: bytes, others: list[bytes]) -> bytes:
        data = bytearray(start)
        for _ in range(self._random.randint(0, 3)):
            if data:
                self._random.choice([self._flip, self._cut, self._double, self._strew, self._splice])(data, others)
        return bytes(data)

    def _at(self, data: bytearray) -> int:
        return self._random.randrange(len(data))

    def _flip(self, data: bytearray, others: list[bytes]) -> None:
        for _ in range(self._random.randint(1, 8)):
            data[self._at(data)] = self._random.randrange(256)

    def _cut(self, data: bytearray, others: list[bytes]) -> None:
        start = self._at(data)
        del data[start : start + self._random.randint(1, 40)]

    def _double(self, data: bytearray, others: list[bytes]) -> None:
        start = self._at(data)
        data[start:start] = data[start : start + self._random.randint(1, 60)] * self._random.randint(1, 5)

    def _strew(self, data: bytearray, others: list[bytes]) -> None:
        for _ in range(self._random.randint(1, 4)):
            at = self._at(data)
            data[at:at] = self._random.choice(self.SPICE)

    def _splice(self, data: bytearray, others: list[bytes]) -> None:
        other = self._random.choice(others)
        data[self._at(data) :] = other[self._random.randrange(len(other)) :]

"""gRPC load on streams in both directions, which h2load has no way to make: one JSON line in, one out.

Each connection has one stream, and sends its next message as soon as it has the answer to the last, as the other loads
do. grpc.aio as a client tops out near 6,000 messages a second and would be measured rather than the server; so frames
are written by hand here. A message is the same bytes every time, an answer is compared with the one that was checked.

    python -m benchmarks.serving_parts.stream_load '{"port": 8001, "path": "/package.Service/Method", ...}'
"""

from __future__ import annotations

import asyncio
import json
import statistics
import struct
import sys
from array import array
from time import perf_counter
from typing import Any

import uvloop

from benchmarks.serving_parts import http2

DRAIN_S = 2.0


class Totals:
    """What all streams have found since the measuring began."""

    def __init__(self) -> None:
        self.latencies = array("d")
        self.errors = 0
        self.sending = True


class Stream(asyncio.Protocol):
    """One connection with one stream; ``message`` and ``expected`` are whole, with gRPC's prefix."""

    def __init__(self, opening: bytes, message: bytes, expected: bytes, totals: Totals) -> None:
        self._opening, self._totals = opening, totals
        self._message, self._cost = http2.frame(http2.DATA, 0, 1, message), len(message)
        self._expected = expected
        self._frames = http2.Frames()
        self._body = b""
        self._room = [http2.DEFAULT_WINDOW, http2.DEFAULT_WINDOW]
        self._initial = http2.DEFAULT_WINDOW
        self._sent: float | None = None
        self._blocked = False
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        """Open the stream and send the first message."""
        self._transport = transport
        transport.write(self._opening)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take answers; acknowledge what HTTP/2 asks to."""
        for kind, flags, stream, payload in self._frames.feed(data):
            if kind == http2.DATA:
                self._answered(payload)
            elif kind == http2.WINDOW_UPDATE:
                self._more_room(stream, struct.unpack(">I", payload)[0])
            elif kind == http2.SETTINGS and not flags & http2.ACK:
                self._settings(payload)
            elif kind == http2.PING and not flags & http2.ACK:
                self._transport.write(http2.frame(http2.PING, http2.ACK, 0, payload))
            elif kind in (http2.RST_STREAM, http2.GOAWAY) or (kind == http2.HEADERS and flags & http2.END_STREAM):
                self._fail()

    def connection_lost(self, error: Exception | None) -> None:
        """Whatever was on its way is lost."""
        self._fail()

    def close(self) -> None:
        """Leave."""
        self.closed = True
        self._transport.close()

    def _send(self) -> None:
        if min(self._room) < self._cost:
            self._blocked = True
            return
        self._room = [room - self._cost for room in self._room]
        self._sent = perf_counter()
        self._transport.write(self._message)

    def _answered(self, payload: bytes) -> None:
        body = self._body + payload if self._body else payload
        if len(body) < 5 or len(body) < 5 + int.from_bytes(body[1:5], "big"):
            self._body = body
            return
        self._body = b""
        assert self._sent is not None
        if body == self._expected:
            self._totals.latencies.append(perf_counter() - self._sent)
        else:  # also when the server sent more than one answer: there was one request
            self._totals.errors += 1
        self._sent = None
        if self._totals.sending:
            self._send()

    def _more_room(self, stream: int, bytes_: int) -> None:
        self._room[1 if stream else 0] += bytes_
        if self._blocked:
            self._blocked = False
            self._send()

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == http2.INITIAL_WINDOW_SIZE:
                self._room[1] += value - self._initial
                self._initial = value
        self._transport.write(http2.frame(http2.SETTINGS, http2.ACK, 0, b""))

    def _fail(self) -> None:
        if not self.closed:
            self._totals.errors += 1
            self.close()


async def run(given: dict[str, Any]) -> dict[str, float]:
    """Load the server that ``given`` describes; ``seconds`` count after ``warm_up`` of the same."""
    loop = asyncio.get_running_loop()
    totals = Totals()
    opening = http2.opening(given["path"], f"127.0.0.1:{given['port']}", given["headers"].items())
    message, expected = bytes.fromhex(given["message"]), bytes.fromhex(given["expected"])
    streams = []
    for _ in range(given["connections"]):
        _, stream = await loop.create_connection(
            lambda: Stream(opening, message, expected, totals), "127.0.0.1", given["port"]
        )
        streams.append(stream)
    await asyncio.sleep(given["warm_up"])
    totals.latencies = array("d")
    started = perf_counter()
    await asyncio.sleep(given["seconds"])
    seconds, latencies = perf_counter() - started, totals.latencies
    answered = len(latencies)
    totals.sending = False
    await asyncio.sleep(min(DRAIN_S, given["seconds"]))
    unanswered = sum(stream._sent is not None for stream in streams if not stream.closed)
    for stream in streams:
        stream.close()
    cuts = statistics.quantiles(latencies[:answered], n=100) if answered > 1 else [0.0] * 99
    return {
        "requests": answered, "errors": totals.errors + unanswered, "seconds": seconds,
        "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3, "bytes_each": float(len(expected)),
    }  # fmt: skip


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(json.loads(sys.argv[1])))))

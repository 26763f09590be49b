"""Frames on a byte stream between the server and its workers: a message, and buffers that are never copied into it.

A frame is, in little endian::

    4 bytes   b"DSW1"
    u32       number of buffers, n
    u64       bytes of the message, m
    n * u64   bytes of each buffer
    m bytes   the message
    ...       the buffers, one after the other

Both ends are ours and run the same version, so there is nothing to negotiate; the magic number only tells that a model
wrote to a descriptor that was not its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Buffer = bytes | bytearray | memoryview

MAGIC = b"DSW1"
_HEAD = struct.Struct("<4sIQ")
_SCRATCH = 64 * 1024
MOST_BYTES = 1 << 34
"""Of a message or a buffer: beyond it, what was read is not a frame."""


class FrameError(Exception):
    """The stream does not hold frames."""


class Frame(NamedTuple):
    """One message and its buffers; the buffers are writable and aligned, because arrays are made of them."""

    message: memoryview
    buffers: Sequence[bytearray]


def frame(message: bytes, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """The pieces of a frame, in the order in which they are written."""
    sizes = [memoryview(buffer).nbytes for buffer in buffers]
    head = _HEAD.pack(MAGIC, len(sizes), len(message)) + struct.pack(f"<{len(sizes)}Q", *sizes)
    return [head + message, *buffers]


class FrameReader:
    """Takes in bytes as they come, without an opinion on where from, and gives frames.

    ``buffer()`` is where the next bytes are to be read to, ``received(count)`` says how many came. Small frames go
    through a scratch buffer, many in one read; large parts are read right into the memory that they stay in.
    """

    def __init__(self) -> None:
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._start = self._end = 0
        self._parts: list[bytearray] = []
        self._wanted: list[int] = []
        self._table = 0
        self._filled = 0

    def buffer(self) -> memoryview:
        """Memory for at least one byte."""
        if self._wanted and self._start == self._end:
            part = self._part()
            if len(part) - self._filled >= _SCRATCH:
                return memoryview(part)[self._filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == _SCRATCH:
            rest = self._end - self._start
            self._scratch[:rest] = bytes(self._scratch[self._start : self._end])
            self._start, self._end = 0, rest
        return self._scratch[self._end :]

    def received(self, count: int) -> Iterator[Frame]:
        """Take note of ``count`` bytes in the memory that ``buffer()`` gave; yields the frames that are complete.

        Raises :class:`FrameError` for what cannot be a frame.
        """
        if self._wanted and self._start == self._end and len(self._part()) - self._filled >= _SCRATCH:
            self._filled += count
        else:
            self._end += count
        while self._advance():
            table, parts = self._table, self._parts
            self._parts, self._filled = [], 0
            yield Frame(memoryview(parts[0])[table:], parts[1:])

    def _advance(self) -> bool:
        """Move on through what was read; whether a frame is complete."""
        if not self._wanted:
            if self._end - self._start < _HEAD.size:
                return False
            magic, count, size = _HEAD.unpack_from(self._scratch, self._start)
            if magic != MAGIC or size > MOST_BYTES or count * 8 > MOST_BYTES:
                raise FrameError("what was read does not begin a frame")
            self._start += _HEAD.size
            self._table = 8 * count
            self._wanted = [8 * count + size]
        while True:
            part = self._part()
            take = min(len(part) - self._filled, self._end - self._start)
            part[self._filled : self._filled + take] = self._scratch[self._start : self._start + take]
            self._start += take
            self._filled += take
            if self._filled < len(part):
                return False
            if len(self._parts) == 1 and self._table:
                self._wanted += self._sizes(part)
            if len(self._parts) == len(self._wanted):
                break
            self._parts.append(bytearray(self._wanted[len(self._parts)]))
            self._filled = 0
        self._wanted = []
        return True

    def _part(self) -> bytearray:
        if not self._parts:
            self._parts = [bytearray(self._wanted[0])]
            self._filled = 0
        return self._parts[-1]

    def _sizes(self, part: bytearray) -> tuple[int, ...]:
        sizes = struct.unpack_from(f"<{self._table // 8}Q", part)
        if any(size > MOST_BYTES for size in sizes):
            raise FrameError("a buffer is larger than any can be")
        return sizes

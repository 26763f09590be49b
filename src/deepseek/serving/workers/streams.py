"""Messages over the sockets of a server and its workers: blocking in a worker, on the event loop in the server."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

import msgspec

from deepseek.serving.workers.frames import Buffer, FrameError, FrameReader
from deepseek.serving.workers.messages import Message
from deepseek.serving.workers.values import MessageReader, MessageWriter

SOCKET_BYTES = 2 * 1024 * 1024
"""Asked of the kernel for each direction, so that an image crosses in few turns of the event loop."""


class BlockingStream:
    """One end of a stream, for one reading and one writing thread."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._frames = FrameReader()
        self._ready: deque[Message] = deque()
        self._reader = MessageReader()
        self._writer = MessageWriter()

    def receive(self) -> Message | None:
        """The next message; ``None`` when the other end is closed."""
        while not self._ready:
            if (messages := self.read()) is None:
                return None
            self._ready.extend(messages)
        return self._ready.popleft()

    def read(self) -> list[Message] | None:
        """Wait for bytes and return the messages that they complete; ``None`` when the other end is closed."""
        try:
            count = self.socket.recv_into(self._frames.buffer())
        except ConnectionResetError:
            return None
        return [self._reader.message(frame) for frame in self._frames.received(count)] if count else None

    def encode(self, message: Message) -> list[Buffer]:
        """The pieces of a message's frame; raises as :meth:`MessageWriter.frame`."""
        return self._writer.frame(message)

    def send(self, message: Message) -> None:
        """Write a message; raises as :meth:`encode`, and ``OSError`` when the other end is closed."""
        pieces = [memoryview(piece) for piece in self.encode(message)]
        while pieces:
            sent = self.socket.sendmsg(pieces[:512])  # the kernel takes at most 1,024
            while pieces and sent >= pieces[0].nbytes:
                sent -= pieces.pop(0).nbytes
            if sent:
                pieces[0] = pieces[0][sent:]


class LoopStream(asyncio.BufferedProtocol):
    """The other end, on an event loop: ``received(message)`` for each message, ``lost()`` once when it is closed."""

    def __init__(self, received: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._received, self._lost = received, lost
        self._frames = FrameReader()
        self._reader = MessageReader()
        self._writer = MessageWriter()
        self._transport: asyncio.Transport | None = None

    async def open(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def send(self, message: Message) -> None:
        """Write a message, when the socket takes it; raises as :meth:`MessageWriter.frame`.

        Nothing is written once the stream is closed: ``lost()`` tells of that.
        """
        pieces = self._writer.frame(message)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pieces)

    def close(self) -> None:
        """Close it, without sending what waits."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From the event loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it

    def get_buffer(self, sizehint: int) -> memoryview:
        """From the event loop: where to read to."""
        return self._frames.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """From the event loop: bytes were read."""
        try:
            for frame in self._frames.received(nbytes):
                self._received(self._reader.message(frame))
        except (FrameError, msgspec.MsgspecError):
            self.close()  # whoever wrote that is not to be listened to any more

    def connection_lost(self, exc: Exception | None) -> None:
        """From the event loop."""
        self._transport = None
        self._lost()

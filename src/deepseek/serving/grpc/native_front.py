"""The front in Rust (pygrpc-native): HTTP/2 and gRPC outside of the interpreter's lock, calls handed over in batches.

Choices
- Its low-level interface, not its imitation of grpc.aio, whose context objects cost more than a fast model.
- A thread waits for calls and hands each batch of them to the event loop; all answering happens there.
- What it does not serve itself (streams in both directions, reflection, health) goes to an :class:`AioFront` behind it
  on a Unix socket in a directory that only this user can enter.

Its ``close()`` does not wait until answers that it was given are written to their sockets, and does not tell when they
are; so the end waits a moment for them.

It has no TLS: :mod:`deepseek.serving.grpc.front` takes grpc.aio then. It reads a message as a whole, and
hands over a copy, before its size is asked for; so a message over the limit is refused, but was in memory, for a moment
twice.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from pygrpc_native import EVENT_CANCEL, NativeGrpcFront

from deepseek.serving.errors import BodyTooLargeError, NotReadyError, describe
from deepseek.serving.grpc.aio_front import AioFront
from deepseek.serving.grpc.rpc import Metadata, Service, Unary, retry_metadata
from deepseek.serving.http_server import port_error

_BATCH = 256
_IO_THREADS = 1
_FLUSH_SECONDS = 0.3


class _Method(NamedTuple):
    path: str
    parse: Callable[[bytes], Any]
    answer: Unary


class NativeFront:
    """Serves services through Rust: bound by :meth:`listen`, serving after :meth:`start`."""

    def __init__(self, services: Sequence[Service], max_message_bytes: int) -> None:
        self._behind = AioFront(services, max_message_bytes)
        self._limit = max_message_bytes
        self._methods = [
            _Method(f"/{service.name}/{rpc.name}", rpc.parse, rpc.unary)
            for service in services
            for rpc in service.rpcs
            if rpc.unary is not None
        ]
        self._front: Any = None
        self._folder: Path | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self.port = 0

    def listen(self, address: str, port: int) -> None:
        """Bind a TCP port, 0 for a free one. Raises :class:`DeepSeekError` naming it."""
        host = f"[{address}]" if ":" in address else address
        try:
            self._front = NativeGrpcFront(f"{host}:{port}", [], io_threads=_IO_THREADS, call_details=True)
        except OSError as error:
            raise port_error("grpc_port", address, port, str(error)) from error
        self.port = self._front.bound_port

    async def start(self) -> None:
        """Accept calls; health says NOT_SERVING until :meth:`set_ready`."""
        self._loop = asyncio.get_running_loop()
        self._folder = Path(tempfile.mkdtemp(prefix="deepseek-grpc-"))
        behind = str(self._folder / "grpc.sock")
        self._behind.listen_at(behind)
        await self._behind.start()
        self._front.set_fallback(behind)
        self._front.add_methods([(method.path, False) for method in self._methods])
        self._front.start()
        threading.Thread(target=self._receive, name="deepseek-grpc", daemon=True).start()

    async def set_ready(self, ready: bool) -> None:
        """Tell health watchers."""
        await self._behind.set_ready(ready)

    async def stop(self, seconds: float) -> None:
        """Refuse new calls, give those in flight ``seconds`` to finish, then cancel them."""
        self._stopping = True
        behind = asyncio.ensure_future(self._behind.stop(seconds))
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=seconds)
        for task in list(self._tasks.values()):
            task.cancel()
        await behind
        folder, self._folder = self._folder, None
        if folder is not None:
            await asyncio.sleep(_FLUSH_SECONDS)
            await asyncio.to_thread(self._front.close)
            shutil.rmtree(folder, ignore_errors=True)

    def _receive(self) -> None:
        """In a thread of its own: wait for calls, hand them to the loop."""
        assert self._loop is not None
        while (events := self._front.recv_batch_details(_BATCH)) is not None:
            try:
                self._loop.call_soon_threadsafe(self._take, events)
            except RuntimeError:  # the loop was closed without stop()
                self._front.close()
                return
            del events  # else this thread would hold the last messages until the next come

    def _take(self, events: list[tuple[Any, ...]]) -> None:
        assert self._loop is not None
        tasks, create = self._tasks, self._loop.create_task
        for kind, call_id, method, payload, _, details in events:
            if kind == EVENT_CANCEL:
                task = tasks.get(call_id)
                if task is not None:
                    task.cancel()
            elif self._stopping:
                self._fail(call_id, NotReadyError("the server is shutting down; retry against another replica"))
            else:
                tasks[call_id] = create(self._answer(call_id, self._methods[method], payload, details))

    async def _answer(self, call_id: int, method: _Method, payload: bytes, details: Any) -> None:
        try:
            if len(payload) > self._limit:
                raise BodyTooLargeError(f"expected a message of at most {self._limit} bytes, received {len(payload)}")
            response = await method.answer(method.parse(payload), Metadata(details[0]))
            self._front.respond(call_id, response.SerializeToString())
        except asyncio.CancelledError:
            # The client left, or its deadline passed: nobody listens. At the end of a drain somebody may.
            self._front.fail(call_id, grpc.StatusCode.UNAVAILABLE.value[0], "the call was cancelled", None)
        except Exception as error:  # noqa: BLE001  the boundary: every call gets a status
            self._fail(call_id, error)
        finally:
            del self._tasks[call_id]

    def _fail(self, call_id: int, error: Exception) -> None:
        failure = describe(error)
        code = getattr(grpc.StatusCode, failure.grpc_code).value[0]
        self._front.fail(call_id, code, failure.message, retry_metadata(failure, pushback=False))

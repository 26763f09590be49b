"""REST and gRPC in one process, on one event loop, over the same batchers.

Start: bind both ports (nothing else has started when that fails), accept on both while the models warm up (live but
not ready), then become ready. Shutdown: become unready and refuse new requests, let those in flight finish within
``drain_seconds``, then close connections and end the models' threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Sequence
from types import TracebackType
from typing import Any

from deepseek.errors import ConfigError, DeepSeekError
from deepseek.monitoring.config import MonitoringConfig
from deepseek.monitoring.server_monitor import ServerMonitor
from deepseek.serving.assembly import Assembly
from deepseek.serving.config import ServingConfig
from deepseek.serving.errors import refusal, status_of
from deepseek.serving.lifecycle import Lifecycle
from deepseek.serving.models.observing import ModelObserver
from deepseek.serving.models.repository import ModelRepository, ModelSource
from deepseek.serving.models.served_model import ServedModel
from deepseek.serving.version import server_version

logger = logging.getLogger("deepseek.serving")


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


class Server:
    """Serves ``models`` with ``config``, either blocking (:meth:`run`) or in a background thread (:meth:`start`).

    ``sources`` are where models can be loaded from while the server runs; one of the same name as a model is where
    that model came from, and those that ``load`` names are loaded before the server is ready. ``beside`` runs on the
    server's event loop while it serves.

    A server runs once. As a context manager it starts on entry and stops on exit.
    """

    def __init__(
        self,
        config: ServingConfig,
        models: Sequence[ServedModel] = (),
        *,
        sources: Sequence[ModelSource] = (),
        load: Collection[str] = (),
        beside: Sequence[Callable[[ModelRepository], Coroutine[Any, Any, None]]] = (),
    ) -> None:
        if not models and not sources:
            raise ConfigError("expected at least one model to serve, received none")
        self._load, self._beside = load, beside
        self.config = config
        self._lifecycle = Lifecycle()
        self.monitor = self._new_monitor(config.monitoring)
        observer = ModelObserver(self.monitor) if self.monitor is not None else None
        self.repository = ModelRepository(config, observer)
        by_name = {source.name: source for source in sources}
        for source in sources:
            self.repository.register(source)
        for model in models:
            self.repository.add(model, by_name.get(model.name))
        self._used = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._hurry: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._assembly: Assembly | None = None

    @property
    def http_url(self) -> str:
        """Where REST answers, e.g. ``"http://127.0.0.1:8000"``; raises :class:`DeepSeekError` before the start."""
        bound = self._bound()
        return f"{'http' if self.config.tls is None else 'https'}://{bound.host}:{bound.http_port}"

    @property
    def grpc_address(self) -> str:
        """Where gRPC answers, e.g. ``"127.0.0.1:8001"``; raises :class:`DeepSeekError` before the start."""
        bound = self._bound()
        return f"{bound.host}:{bound.grpc_port}"

    @property
    def console_url(self) -> str | None:
        """Where the console is; ``None`` where there is none. Raises :class:`DeepSeekError` before the start."""
        return f"{self.http_url}/console" if self._bound().console else None

    @property
    def admin_url(self) -> str | None:
        """Where keys are managed; ``None`` without an admin port. Raises :class:`DeepSeekError` before the start."""
        port = self._bound().admin_port
        return None if port is None else f"http://127.0.0.1:{port}/admin"

    def _bound(self) -> Assembly:
        if self._assembly is None:
            raise DeepSeekError("the server has not started; call start() or run() first")
        return self._assembly

    def run(self, on_ready: Callable[[Server], None] | None = None) -> None:
        """Serve in this thread until SIGINT or SIGTERM, then drain and return; a second signal ends the drain.

        ``on_ready`` is called once, when both protocols answer. Raises :class:`DeepSeekError` when a port is in use or
        a model fails on its warm-up, :class:`ConfigError` outside of the main thread, where signals do not arrive.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError("run() needs the main thread, where signals arrive; use start() and stop() elsewhere")
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(self._serve((lambda: on_ready(self)) if on_ready else None, signals=True))

    def start(self) -> Server:
        """Serve in a background thread; returns once both ports accept and ``/v2/health/ready`` says ready.

        Raises what :meth:`run` raises; nothing is left running then.
        """
        self._check_unused()
        started = threading.Event()
        failures: list[BaseException] = []

        def serve() -> None:
            try:
                with asyncio.Runner(loop_factory=_new_loop) as runner:
                    runner.run(self._serve(started.set, signals=False))
            except BaseException as error:  # it is raised in the caller's thread
                failures.append(error)
                if started.is_set():
                    logger.exception("the server stopped")
            finally:
                started.set()

        self._thread = threading.Thread(target=serve, name="deepseek-server", daemon=True)
        self._thread.start()
        started.wait()
        if failures:
            self._thread.join()
            raise failures[0]
        self._confirm_ready()
        return self

    def request_stop(self) -> None:
        """Begin to drain and stop; for the event loop's thread, where :meth:`stop` would wait for itself."""
        if self._stop is not None:
            self._stop.set()

    def stop(self) -> None:
        """Drain and stop a server that :meth:`start` started; does nothing when it has stopped already."""
        loop, stop, thread = self._loop, self._stop, self._thread
        if thread is None or loop is None or stop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
            loop.call_soon_threadsafe(stop.set)
        thread.join()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _check_unused(self) -> None:
        if self._used:
            raise ConfigError("this server has run already; make a new Server to serve again")

    def _confirm_ready(self) -> None:
        bound = self._bound()
        connection = self._connection(bound.host.strip("[]"), bound.http_port)
        if connection is None:
            return
        try:
            connection.request("GET", "/v2/health/ready", headers={"connection": "close"})
            status = connection.getresponse().status
        except OSError as error:
            self.stop()
            raise DeepSeekError(f"the server started, but does not answer at {self.http_url}: {error}") from error
        finally:
            connection.close()
        if status != 200:
            self.stop()
            raise DeepSeekError(f"the server started, but is not ready: {self.http_url}/v2/health/ready says {status}")

    def _connection(self, host: str, port: int) -> http.client.HTTPConnection | None:
        """A connection to ourselves; ``None`` where that takes a client's certificate, which we do not have."""
        if self.config.tls is None:
            return http.client.HTTPConnection(host, port, timeout=10)
        if self.config.tls.client_ca is not None:
            return None
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # to the socket that we bound ourselves
        return http.client.HTTPSConnection(host, port, timeout=10, context=context)

    async def _serve(self, on_ready: Callable[[], None] | None, signals: bool) -> None:
        self._check_unused()
        self._used = True
        self._loop = loop = asyncio.get_running_loop()
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        if signals:
            self._handle_signals(loop)
        assembly = Assembly(self.config, self.repository, self._lifecycle)
        await assembly.open(self.monitor)
        self._assembly = assembly
        try:
            serving = await assembly.start()
            stopping = loop.create_task(self._stop.wait())
            warming = loop.create_task(self._warm_up(assembly))
            await asyncio.wait([warming, stopping, serving], return_when=asyncio.FIRST_COMPLETED)
            if warming.done():
                await warming
                logger.info("serving REST at %s and gRPC at %s", self.http_url, self.grpc_address)
                if on_ready is not None:
                    on_ready()
                others = [loop.create_task(each(self.repository)) for each in self._beside]
                await asyncio.wait([stopping, serving], return_when=asyncio.FIRST_COMPLETED)
                for other in others:
                    other.cancel()
            warming.cancel()
            stopping.cancel()
            if serving.done():
                serving.result()
                raise DeepSeekError("the HTTP server ended by itself; the log has the reason")
        finally:
            await assembly.shut_down(self._hurry)

    async def _warm_up(self, assembly: Assembly) -> None:
        for loaded in list(self.repository):
            await loaded.warm_up()
        for name in self._load:
            await self.repository.load(name)
        await assembly.become_ready()

    def _new_monitor(self, config: MonitoringConfig | None) -> ServerMonitor | None:
        if config is None:
            return None
        return ServerMonitor(
            config,
            status_of=status_of,
            reason_of=refusal,
            in_flight=lambda: self._lifecycle.in_flight,
            worker_restarts=lambda: self.repository.worker_restarts,
            version=server_version(),
        )

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        def stop() -> None:
            assert self._stop is not None
            assert self._hurry is not None
            (self._hurry if self._stop.is_set() else self._stop).set()

        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))

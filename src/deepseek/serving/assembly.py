"""The parts of one running server: opened in order, closed in the other, on one event loop.

Ports are bound first, so that a busy one is known before a model has loaded. Then come keys, monitoring, and both
protocols; the admin port last, if there is a token for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.monitoring.server_monitor import ServerMonitor
from deepseek.serving.access.admin_app import AdminApp
from deepseek.serving.access.config import is_loopback
from deepseek.serving.access.control import AccessControl
from deepseek.serving.config import ServingConfig
from deepseek.serving.console.admin_page import AdminConsole
from deepseek.serving.console.routes import ConsoleRoutes
from deepseek.serving.console.state import Offers
from deepseek.serving.gateway import Gateway
from deepseek.serving.grpc.front import Front, open_front
from deepseek.serving.grpc.oip_service import OipService
from deepseek.serving.http_server import HttpServer, bind
from deepseek.serving.lifecycle import Lifecycle, Phase
from deepseek.serving.models.repository import ModelRepository
from deepseek.serving.rest.app import RestApp
from deepseek.serving.rest.cors import CorsApp

if TYPE_CHECKING:
    from deepseek.serving.features.reads import FeatureReads

logger = logging.getLogger("deepseek.serving")

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with, not listened on
_CLOSE_SECONDS = 1.0
_YOUNG_OBJECTS = 20_000
"""How many objects may be new before the garbage collector looks at them, instead of 700: requests in flight are that
many, and nearly all that they hold is freed by its reference count."""
_LOOPBACK = "127.0.0.1"


class Assembly:
    """A server's ports and what answers on them.

    Attributes:
        host: where this machine reaches the server; IPv6 addresses in brackets.
        http_port, grpc_port: as bound.
        admin_port: as bound; ``None`` when there is no admin port.
        console: whether there is a page at ``/console``.
    """

    def __init__(self, config: ServingConfig, repository: ModelRepository, lifecycle: Lifecycle) -> None:
        self._config, self._repository, self._lifecycle = config, repository, lifecycle
        self._closing = contextlib.AsyncExitStack()
        self._http: HttpServer
        self._grpc: Front
        self._admin: HttpServer | None = None
        self.host = ""
        self.http_port = self.grpc_port = 0
        self.admin_port: int | None = None
        self.console = False

    async def open(self, monitor: ServerMonitor | None) -> None:
        """Bind the ports and open the store of keys; nothing is left open when this raises.

        Raises:
            ConfigError: a host, certificate or setting is wrong.
            DeepSeekError: a port is in use, or the store of keys cannot be opened.
        """
        config = self._config
        if config.tls is not None:
            config.tls.check()
        family, address = await _resolve(config.host)
        async with contextlib.AsyncExitStack() as opened:
            listener = bind(address, config.http_port, family)
            opened.callback(listener.close)
            if monitor is not None:  # first and, when closing, last: it has the log that the others write to
                await monitor.start()
                opened.push_async_callback(monitor.close)
            access = None
            if config.access.applies_to(config.host):
                access = await AccessControl.open(config.access)
                opened.push_async_callback(access.close)
            gateway = Gateway(self._repository, self._lifecycle, access=access, monitor=monitor)
            features = await self._open_features()
            services = [OipService(gateway, config.model_control).service()]
            if features is not None:
                from deepseek.serving.features.grpc_service import FeatureService

                opened.push_async_callback(asyncio.to_thread, features.close)
                services.append(FeatureService(gateway, features).service())
            credentials = None if config.tls is None else config.tls.grpc_credentials()
            self._grpc = open_front(services, config, address, credentials)
            if access is not None and config.access.token is not None:
                admin = bind(_LOOPBACK, config.admin_port, socket.AF_INET)
                admin_app = AdminApp(access.admin, config.access.token)
                self._admin = HttpServer(admin_app if config.console.mode == "off" else AdminConsole(admin_app), admin)
                self.admin_port = admin.getsockname()[1]
            console = self._console(gateway)
            self.console = console is not None
            app: Any = RestApp(config, gateway, features, console)
            if config.cors.allow_origins:
                app = CorsApp(app, config.cors)
            self._http = HttpServer(app, listener, config.rest, config.tls)
            self.http_port, self.grpc_port = listener.getsockname()[1], self._grpc.port
            host = _WILDCARDS.get(address, address)
            self.host = f"[{host}]" if ":" in host else host
            if monitor is not None:
                self._closing.push_async_callback(monitor.close)
            if access is not None:
                self._closing.push_async_callback(access.close)
            if features is not None:
                self._closing.push_async_callback(asyncio.to_thread, features.close)
            opened.pop_all()

    async def _open_features(self) -> FeatureReads | None:
        if self._config.features is None:
            return None
        from deepseek.serving.features.reads import FeatureReads  # with pyarrow, which others do not need

        return await asyncio.to_thread(FeatureReads, self._config.features)

    def _console(self, gateway: Gateway) -> ConsoleRoutes | None:
        config = self._config
        if not config.console.offered(loopback=is_loopback(config.host), keys=gateway.access is not None):
            return None
        admin_url = "" if self.admin_port is None else f"http://{_LOOPBACK}:{self.admin_port}/console"
        return ConsoleRoutes(gateway, Offers(model_control=config.model_control, admin_url=admin_url))

    async def start(self) -> asyncio.Task[None]:
        """Accept on both protocols; the returned task ends only when REST does."""
        serving = self._http.start()
        if self._admin is not None:
            self._admin.start()
        await self._grpc.start()
        return serving

    async def become_ready(self) -> None:
        """Take requests.

        What models and libraries made until now stays: the garbage collector need not look through it again and again,
        which would hold up requests for tens of milliseconds each time. Until the end it also looks less often.
        """
        gc.collect()
        gc.freeze()
        usual = gc.get_threshold()
        gc.set_threshold(max(usual[0], _YOUNG_OBJECTS) if usual[0] else 0, *usual[1:])  # 0: it is off
        self._closing.callback(gc.set_threshold, *usual)
        self._lifecycle.phase = Phase.SERVING
        await self._grpc.set_ready(True)

    async def shut_down(self, hurry: asyncio.Event) -> None:
        """Refuse new requests, let those in flight finish within ``drain_seconds`` or until ``hurry``, close all."""
        loop = asyncio.get_running_loop()
        seconds = self._config.drain_seconds
        deadline = loop.time() + seconds
        self._lifecycle.phase = Phase.DRAINING
        await self._grpc.set_ready(False)
        grpc_stop = loop.create_task(self._grpc.stop(seconds))
        drained = loop.create_task(self._lifecycle.drained())
        hurried = loop.create_task(hurry.wait())
        await asyncio.wait([drained, hurried], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not drained.done():
            logger.error("%d requests were still in flight when the drain ended", self._lifecycle.in_flight)
            drained.cancel()
        hurried.cancel()
        # What is left now are health watchers, which never end by themselves, and answers on their way out.
        await self._grpc.stop(_CLOSE_SECONDS)
        self._repository.close()
        await self._http.stop(max(deadline - loop.time(), _CLOSE_SECONDS))
        if self._admin is not None:
            await self._admin.stop(_CLOSE_SECONDS)
        await grpc_stop
        await self._closing.aclose()


async def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """Resolve a host name once, so that both protocols listen on the same address."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"cannot listen on host {host!r}: {error}") from error
    family, _, _, _, address = found[0]
    return socket.AddressFamily(family), str(address[0])

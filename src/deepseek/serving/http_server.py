"""granian, embedded in our event loop, on a socket that we bound ourselves.

Three things of ``granian.server.embed`` (2.8) do not fit and are replaced here, with what its own classes offer:

- it binds with ``SO_REUSEPORT``, so that a second server on a busy port would start and share the traffic silently; and
  it does not tell which port 0 became. We bind and listen, and hand the descriptor over.
- it re-configures the process's ``logging``. An incremental configuration keeps everybody's handlers.
- it neither handles signals nor waits for requests: :mod:`deepseek.serving.server` does both before calling
  :meth:`HttpServer.stop`. What granian does then is right: it stops accepting, and lets connections finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server.embed import Server as EmbeddedGranian

from deepseek.errors import DeepSeekError
from deepseek.serving.rest.limits import RestLimits
from deepseek.serving.tls import TlsConfig

BACKLOG = 2048
MAX_CONNECTIONS = 16384
_MAX_STREAMS = 128
_KEEP_LOGGING = {"incremental": True, "formatters": {}, "handlers": {}, "loggers": {}}


def bind(address: str, port: int, family: socket.AddressFamily) -> socket.socket:
    """Bind and listen exclusively; port 0 picks a free one. Raises :class:`DeepSeekError` naming the port."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would allow exactly what we refuse
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise port_error("http_port", address, port, error.strerror or str(error)) from error
    return listener


def port_error(setting: str, address: str, port: int, reason: str) -> DeepSeekError:
    """The error for a port that cannot be listened on."""
    return DeepSeekError(
        f"cannot listen on {address} port {port}: {reason}. "
        f"Stop the process that uses the port, or choose another one with {setting} (0 picks a free one)"
    )


class _Granian(EmbeddedGranian):  # type: ignore[misc]  # granian ships no usable types for this class
    """granian's embedded server on a given listening socket."""

    def __init__(self, target: Any, listener: socket.socket, limits: RestLimits, tls: TlsConfig | None) -> None:
        address, port = listener.getsockname()[:2]
        self._listener = listener
        super().__init__(
            target,
            address=address,
            port=port,
            interface=Interfaces.RSGI,
            http=HTTPModes.auto if limits.http2 else HTTPModes.http1,
            http1_settings=HTTP1Settings(
                header_read_timeout=round(limits.header_timeout_seconds * 1000),  # and the longest unused time
                max_buffer_size=limits.max_header_bytes,
            ),
            http2_settings=HTTP2Settings(
                max_headers_size=limits.max_header_bytes,
                max_concurrent_streams=_MAX_STREAMS,
                keep_alive_interval=round(limits.header_timeout_seconds * 1000),
            ),
            websockets=False,
            backlog=BACKLOG,
            backpressure=MAX_CONNECTIONS,
            log_level=LogLevels.error,
            log_dictconfig=_KEEP_LOGGING,
            **(tls.http_options() if tls is not None else {}),
        )

    def _init_shared_socket(self) -> None:
        # granian closes the descriptor when it stops listening, so it must be the only owner.
        descriptor = self._listener.detach()
        if sys.platform == "linux":
            self._shd = SocketHolder(descriptor, False, BACKLOG)  # type: ignore[call-arg]  # its stub has no constructor
        else:
            self._shd = SocketHolder(descriptor, False)
        self._sfd = self._shd.get_fd()
        self._ssp = None


class HttpServer:
    """Serves an RSGI application on the running event loop."""

    def __init__(
        self,
        target: Any,
        listener: socket.socket,
        limits: RestLimits | None = None,
        tls: TlsConfig | None = None,
    ) -> None:
        self._granian = _Granian(target, listener, limits or RestLimits(), tls)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Start serving; the returned task ends only when serving does."""
        self._task = asyncio.get_running_loop().create_task(self._granian.serve())
        return self._task

    async def stop(self, seconds: float) -> bool:
        """Stop accepting and close connections; returns whether all had ended after ``seconds``."""
        if self._task is None:
            return True
        self._granian.stop()
        done, _ = await asyncio.wait([self._task], timeout=seconds)
        if not done:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        return bool(done)

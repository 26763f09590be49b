"""Picks the gRPC front: the one in Rust where it is installed and can do what is asked for, else grpc.aio.

The one in Rust holds a message in memory before it knows that it is too large, whoever sent it: up to 4 GiB of each, as
much as gRPC's framing allows, and for a moment twice that. So where others than this machine's users can reach the
port, it has to be asked for.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from typing import Protocol

import grpc

from deepseek.errors import ConfigError
from deepseek.serving.access.config import is_loopback
from deepseek.serving.config import ServingConfig
from deepseek.serving.grpc.aio_front import AioFront
from deepseek.serving.grpc.rpc import Service

_LIBRARY = "pygrpc_native"
logger = logging.getLogger("deepseek.serving")


class Front(Protocol):
    """A gRPC server over a table of services."""

    port: int

    async def start(self) -> None:
        """Accept calls; health says NOT_SERVING until :meth:`set_ready`."""

    async def set_ready(self, ready: bool) -> None:
        """Tell health watchers."""

    async def stop(self, seconds: float) -> None:
        """Refuse new calls, give those in flight ``seconds`` to finish, then cancel them."""


def open_front(
    services: Sequence[Service], config: ServingConfig, address: str, credentials: grpc.ServerCredentials | None = None
) -> Front:
    """A front bound to ``config.grpc_port``, not serving yet.

    Raises:
        ConfigError: ``grpc_transport`` is ``"native"``, and that is not installed or was asked for TLS.
        DeepSeekError: the port cannot be listened on.
    """
    here = importlib.util.find_spec(_LIBRARY) is not None
    wanted = config.grpc_transport == "native" or (config.grpc_transport == "auto" and is_loopback(address))
    if config.grpc_transport == "native":
        if not here:
            raise ConfigError(
                "grpc_transport 'native' needs the library pygrpc-native (pip install pygrpc-native), "
                "which has builds for Linux and macOS; 'grpcio' needs nothing"
            )
        if credentials is not None:
            raise ConfigError("grpc_transport 'native' has no TLS; choose 'grpcio' or 'auto'")
    if here and credentials is None and wanted:
        from deepseek.serving.grpc.native_front import NativeFront

        native = NativeFront(services, config.max_body_bytes)
        native.listen(address, config.grpc_port)
        return native
    if here and credentials is None and config.grpc_transport == "auto":
        logger.info(
            "gRPC is served by grpc.aio, because others can reach %s; behind a proxy that bounds messages, "
            "grpc_transport: native is several times as fast",
            address,
        )
    aio = AioFront(services, config.max_body_bytes)
    aio.listen(address, config.grpc_port, credentials)
    return aio

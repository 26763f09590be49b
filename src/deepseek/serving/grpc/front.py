"""Picks the gRPC front: the one in Rust where it is installed and can do what is asked for, else grpc.aio."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import grpc

from deepseek.errors import ConfigError
from deepseek.serving.config import ServingConfig
from deepseek.serving.grpc.aio_front import AioFront
from deepseek.serving.grpc.rpc import Service

_LIBRARY = "pygrpc_native"


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
    if config.grpc_transport == "native":
        if not here:
            raise ConfigError(
                "grpc_transport 'native' needs the library pygrpc-native (pip install pygrpc-native), "
                "which has builds for Linux and macOS; 'grpcio' needs nothing"
            )
        if credentials is not None:
            raise ConfigError("grpc_transport 'native' has no TLS; choose 'grpcio' or 'auto'")
    if here and credentials is None and config.grpc_transport != "grpcio":
        from deepseek.serving.grpc.native_front import NativeFront

        native = NativeFront(services, config.max_body_bytes)
        native.listen(address, config.grpc_port)
        return native
    aio = AioFront(services, config.max_body_bytes)
    aio.listen(address, config.grpc_port, credentials)
    return aio

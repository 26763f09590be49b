"""The front by grpc.aio, the reference: every kind of call, TLS, health (grpc.health.v1) and reflection (v1alpha)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from deepseek.serving.errors import describe
from deepseek.serving.grpc.guarded_server import guarded_server
from deepseek.serving.grpc.rpc import Metadata, Rpc, Service, Streaming, Unary, retry_metadata
from deepseek.serving.http_server import port_error


class AioFront:
    """Serves services by grpc.aio: bound by :meth:`listen` or :meth:`listen_at`, serving after :meth:`start`."""

    def __init__(self, services: Sequence[Service], max_message_bytes: int) -> None:
        # Without SO_REUSEPORT, so that a busy port is an error rather than a silent share of the traffic.
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
        ]
        self._server = guarded_server(options)
        self._services = tuple(service.name for service in services)
        self._health = health.aio.HealthServicer()
        for service in services:
            handlers = {rpc.name: _handler(rpc) for rpc in service.rpcs}
            self._server.add_registered_method_handlers(service.name, handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = 0

    def listen(self, address: str, port: int, credentials: grpc.ServerCredentials | None = None) -> None:
        """Bind a TCP port, 0 for a free one; with ``credentials``, TLS. Raises :class:`DeepSeekError` naming it."""
        host = f"[{address}]" if ":" in address else address
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(f"{host}:{port}")
            else:
                self.port = self._server.add_secure_port(f"{host}:{port}", credentials)
        except RuntimeError as error:
            raise port_error("grpc_port", address, port, "the address is in use or not ours to bind") from error
        if self.port == 0:
            raise port_error("grpc_port", address, port, "the address is in use or not ours to bind")

    def listen_at(self, path: str) -> None:
        """Bind a Unix socket."""
        self._server.add_insecure_port(f"unix:{path}")

    async def start(self) -> None:
        """Accept calls; health says NOT_SERVING until :meth:`set_ready`."""
        await self.set_ready(False)
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """Tell health watchers, for the server as a whole ("") and for each service."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *self._services):
            await self._health.set(service, status)

    async def stop(self, seconds: float) -> None:
        """Refuse new calls, give those in flight ``seconds`` to finish, then cancel them."""
        await self._server.stop(seconds)


def _handler(rpc: Rpc) -> grpc.RpcMethodHandler:
    # Requests are decoded in here, not by grpc.aio, which would log a traceback for each that is malformed.
    serialize = rpc.response.SerializeToString
    if rpc.unary is not None:
        return grpc.unary_unary_rpc_method_handler(_unary(rpc, rpc.unary), None, serialize)
    assert rpc.streaming is not None
    return grpc.stream_stream_rpc_method_handler(_streaming(rpc, rpc.streaming), None, serialize)


def _unary(rpc: Rpc, handler: Unary) -> Callable[[bytes, Any], Awaitable[Any]]:
    async def answer(payload: bytes, context: Any) -> Any:
        try:
            return await handler(rpc.parse(payload), Metadata(context.invocation_metadata()))
        except Exception as error:  # noqa: BLE001  the boundary: every call gets a status
            await _abort(context, error)

    return answer


def _streaming(rpc: Rpc, handler: Streaming) -> Callable[[AsyncIterator[bytes], Any], AsyncIterator[Any]]:
    async def answer(payloads: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        requests = (rpc.parse(payload) async for payload in payloads)
        try:
            async for response in handler(requests, Metadata(context.invocation_metadata())):
                yield response
        except Exception as error:  # noqa: BLE001  the boundary: every call gets a status
            await _abort(context, error)

    return answer


async def _abort(context: Any, error: Exception) -> None:
    failure = describe(error)
    context.set_trailing_metadata(retry_metadata(failure, pushback=True))
    await context.abort(getattr(grpc.StatusCode, failure.grpc_code), failure.message)

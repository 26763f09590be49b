"""OIP v2 over grpc.aio, with the standard health (grpc.health.v1) and reflection (v1alpha) services.

Same repository, codec, batchers and lifecycle as REST, so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from deepseek.serving.errors import describe
from deepseek.serving.http_server import port_error
from deepseek.serving.lifecycle import Lifecycle
from deepseek.serving.oip import proto_codec
from deepseek.serving.oip.tensor_field import TensorField
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc
from deepseek.serving.repository import ModelRepository
from deepseek.serving.version import server_version

SERVICE: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

Q = TypeVar("Q")
A = TypeVar("A")
Method = Callable[[Any, Q, Any], Awaitable[A]]


def _answering(method: Method[Q, A]) -> Method[Q, A]:
    """Turn exceptions into statuses; a hint when to retry goes into the trailing metadata (gRFC A6)."""

    async def answer(self: Any, request: Q, context: Any) -> A:
        try:
            return await method(self, request, context)
        except Exception as error:  # the boundary: every call gets a status
            failure = describe(error)
            if failure.retry_after is not None:
                pushback = str(max(1, round(failure.retry_after * 1000)))
                context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback),))
            await context.abort(getattr(grpc.StatusCode, failure.grpc_code), failure.message)
            raise AssertionError("abort raises") from error

    return answer


class InferenceServicer:
    """``inference.GRPCInferenceService``; method names are the protocol's."""

    def __init__(self, repository: ModelRepository, lifecycle: Lifecycle) -> None:
        self._repository = repository
        self._lifecycle = lifecycle

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Any) -> pb.ServerLiveResponse:  # noqa: N802
        """The loop answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Any) -> pb.ServerReadyResponse:  # noqa: N802
        """False while models load and while shutting down."""
        return pb.ServerReadyResponse(ready=self._lifecycle.ready and self._repository.ready)

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest, context: Any
    ) -> pb.ServerMetadataResponse:
        """Name and version of the server."""
        return pb.ServerMetadataResponse(name="deepseek", version=server_version(), extensions=[])

    @_answering
    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:  # noqa: N802
        """False while the model loads; NOT_FOUND when there is none of that name."""
        loaded = self._repository.get(request.name, request.version)
        return pb.ModelReadyResponse(ready=loaded.ready and self._lifecycle.ready)

    @_answering
    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: Any
    ) -> pb.ModelMetadataResponse:
        """Versions, platform, inputs and outputs; NOT_FOUND when there is no such model."""
        loaded = self._repository.get(request.name, request.version)
        return pb.ModelMetadataResponse(
            name=loaded.name,
            versions=self._repository.versions(loaded.name),
            platform=loaded.model.platform,
            inputs=[_metadata(field) for field in loaded.codec.inputs.values()],
            outputs=[_metadata(field) for field in loaded.codec.outputs.values()],
        )

    @_answering
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        """Run a model on one batch of rows. A client that leaves cancels its rows: grpc.aio cancels this coroutine."""
        self._lifecycle.enter()
        try:
            loaded = self._repository.get(request.model_name, request.model_version)
            loaded.require_ready()
            inference = proto_codec.decode(loaded.codec, request)
            rows = await loaded.batcher.submit(inference.rows, inference.parameters)
            return proto_codec.encode(loaded.name, loaded.version, inference, rows)
        finally:
            self._lifecycle.leave()


def _metadata(field: TensorField) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=field.name, datatype=field.datatype, shape=field.batch_shape)


class GrpcServer:
    """The gRPC side of a server: bound at construction, serving after :meth:`start`."""

    def __init__(
        self,
        repository: ModelRepository,
        lifecycle: Lifecycle,
        address: str,
        port: int,
        max_message_bytes: int,
    ) -> None:
        # Without SO_REUSEPORT, so that a busy port is an error rather than a silent share of the traffic.
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
        ]
        self._server = grpc.aio.server(options=options)
        self._health = health.aio.HealthServicer()
        add_servicer: Any = pb_grpc.add_GRPCInferenceServiceServicer_to_server  # generated without types
        add_servicer(InferenceServicer(repository, lifecycle), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        host = f"[{address}]" if ":" in address else address
        try:
            self.port: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise port_error("grpc_port", address, port, "the address is in use or not ours to bind") from error
        if self.port == 0:
            raise port_error("grpc_port", address, port, "the address is in use or not ours to bind")

    async def start(self) -> None:
        """Accept calls; health says NOT_SERVING until :meth:`set_ready`."""
        await self.set_ready(False)
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """Tell health watchers, for the server as a whole ("") and for the inference service."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)

    async def stop(self, seconds: float) -> None:
        """Refuse new calls, give those in flight ``seconds`` to finish, then cancel them."""
        await self._server.stop(seconds)

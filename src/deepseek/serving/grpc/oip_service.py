"""Open Inference Protocol v2 over gRPC (specification: open-inference-protocol, inference_grpc.md), with Triton's
streaming call, statistics and model repository.

Same gateway, codec and batchers as REST, so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from deepseek.serving.gateway import Gateway
from deepseek.serving.grpc.inference import InferenceStream, infer
from deepseek.serving.grpc.rpc import Metadata, Rpc, Service
from deepseek.serving.oip.tensor_field import TensorField
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.rest.oip_routes import EXTENSIONS, require_model_control
from deepseek.serving.version import server_version

SERVICE: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


class OipService:
    """Handlers of ``inference.GRPCInferenceService``."""

    def __init__(self, gateway: Gateway, model_control: bool = False) -> None:
        self._gateway = gateway
        self._repository = gateway.repository
        self._model_control = model_control

    def service(self) -> Service:
        """The table of methods."""
        unary = (
            Rpc("ServerLive", pb.ServerLiveRequest, pb.ServerLiveResponse, self.server_live),
            Rpc("ServerReady", pb.ServerReadyRequest, pb.ServerReadyResponse, self.server_ready),
            Rpc("ModelReady", pb.ModelReadyRequest, pb.ModelReadyResponse, self.model_ready),
            Rpc("ServerMetadata", pb.ServerMetadataRequest, pb.ServerMetadataResponse, self.server_metadata),
            Rpc("ModelMetadata", pb.ModelMetadataRequest, pb.ModelMetadataResponse, self.model_metadata),
            Rpc("ModelInfer", pb.ModelInferRequest, pb.ModelInferResponse, self.infer),
            Rpc("ModelStatistics", pb.ModelStatisticsRequest, pb.ModelStatisticsResponse, self.statistics),
            Rpc("RepositoryIndex", pb.RepositoryIndexRequest, pb.RepositoryIndexResponse, self.index),
            Rpc("RepositoryModelLoad", pb.RepositoryModelLoadRequest, pb.RepositoryModelLoadResponse, self.load),
            Rpc(
                "RepositoryModelUnload",
                pb.RepositoryModelUnloadRequest,
                pb.RepositoryModelUnloadResponse,
                self.unload,
            ),
        )
        stream = Rpc("ModelStreamInfer", pb.ModelInferRequest, pb.ModelStreamInferResponse, streaming=self.stream_infer)
        return Service(SERVICE, (*unary, stream))

    async def server_live(self, request: pb.ServerLiveRequest, metadata: Metadata) -> pb.ServerLiveResponse:
        """The loop answers."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest, metadata: Metadata) -> pb.ServerReadyResponse:
        """False while models load and while shutting down."""
        return pb.ServerReadyResponse(ready=self._gateway.lifecycle.ready and self._repository.ready)

    async def server_metadata(self, request: pb.ServerMetadataRequest, metadata: Metadata) -> pb.ServerMetadataResponse:
        """Name, version and extensions of the server."""
        return pb.ServerMetadataResponse(name="deepseek", version=server_version(), extensions=EXTENSIONS)

    async def model_ready(self, request: pb.ModelReadyRequest, metadata: Metadata) -> pb.ModelReadyResponse:
        """False while the model loads; NOT_FOUND when there is none of that name."""
        loaded = self._repository.get(request.name, request.version)
        return pb.ModelReadyResponse(ready=loaded.answers and self._gateway.lifecycle.ready)

    async def model_metadata(self, request: pb.ModelMetadataRequest, metadata: Metadata) -> pb.ModelMetadataResponse:
        """Versions, platform, inputs and outputs; NOT_FOUND when there is no such model."""
        self._gateway.identify(metadata)
        loaded = self._repository.get(request.name, request.version)
        return pb.ModelMetadataResponse(
            name=loaded.name,
            versions=self._repository.versions(loaded.name),
            platform=loaded.model.platform,
            inputs=[_metadata(field) for field in loaded.codec.inputs.values()],
            outputs=[_metadata(field) for field in loaded.codec.outputs.values()],
        )

    def infer(self, request: pb.ModelInferRequest, metadata: Metadata) -> Awaitable[pb.ModelInferResponse]:
        """Run a model on one batch of rows."""
        return infer(self._gateway, request, metadata)

    def stream_infer(
        self, requests: AsyncIterator[pb.ModelInferRequest], metadata: Metadata
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Run each request of a stream as :meth:`infer` does; a failed one is answered with its message, by its id."""
        return InferenceStream(self._gateway, metadata).answers(requests)

    async def statistics(self, request: pb.ModelStatisticsRequest, metadata: Metadata) -> pb.ModelStatisticsResponse:
        """What models have answered since they were loaded."""
        self._gateway.identify(metadata)
        chosen = self._repository.chosen(request.name, request.version)
        return pb.ModelStatisticsResponse(
            model_stats=[pb.ModelStatistics(**loaded.statistics.report(loaded)) for loaded in chosen]
        )

    async def index(self, request: pb.RepositoryIndexRequest, metadata: Metadata) -> pb.RepositoryIndexResponse:
        """Served models and those that could be loaded."""
        with self._gateway.begin("grpc", "repository_index", metadata):
            entries = self._repository.index(ready=request.ready)
            return pb.RepositoryIndexResponse(
                models=[pb.RepositoryIndexResponse.ModelIndex(**entry._asdict()) for entry in entries]
            )

    async def load(self, request: pb.RepositoryModelLoadRequest, metadata: Metadata) -> pb.RepositoryModelLoadResponse:
        """Load a model, or load it again and swap it in."""
        name = request.model_name or request.repository_name
        await self._control(name, "repository_load", metadata, self._repository.load)
        return pb.RepositoryModelLoadResponse(model_name=name, is_loaded=True)

    async def unload(
        self, request: pb.RepositoryModelUnloadRequest, metadata: Metadata
    ) -> pb.RepositoryModelUnloadResponse:
        """Stop serving a model once its requests are answered."""
        name = request.model_name or request.repository_name
        await self._control(name, "repository_unload", metadata, self._repository.unload)
        return pb.RepositoryModelUnloadResponse(model_name=name, is_unloaded=True)

    async def _control(
        self, name: str, operation: str, metadata: Metadata, act: Callable[[str], Awaitable[Any]]
    ) -> None:
        with self._gateway.begin("grpc", operation, metadata) as call:
            call.permit(name)
            require_model_control(self._model_control)
            await act(name)


def _metadata(field: TensorField) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=field.name, datatype=field.datatype, shape=field.batch_shape)

"""``deepseek.v1.FeatureService``: feature reads over gRPC, the same as over REST."""

from __future__ import annotations

from deepseek.serving.features.permission import admit
from deepseek.serving.features.proto_codec import arrow_stream, columns_of, entities_of, moment
from deepseek.serving.features.reads import FeatureReads, FeatureRequest
from deepseek.serving.gateway import Gateway
from deepseek.serving.grpc.rpc import Metadata, Rpc, Service
from deepseek.serving.proto import features_pb2 as pb

SERVICE: str = pb.DESCRIPTOR.services_by_name["FeatureService"].full_name


class FeatureService:
    """Handlers of ``deepseek.v1.FeatureService``."""

    def __init__(self, gateway: Gateway, reads: FeatureReads) -> None:
        self._gateway = gateway
        self._reads = reads

    def service(self) -> Service:
        """The table of methods."""
        return Service(
            SERVICE,
            (
                Rpc("GetFeatures", pb.GetFeaturesRequest, pb.GetFeaturesResponse, self.get_features),
                Rpc("ListFeatureViews", pb.ListFeatureViewsRequest, pb.ListFeatureViewsResponse, self.list_views),
            ),
        )

    async def get_features(self, request: pb.GetFeaturesRequest, metadata: Metadata) -> pb.GetFeaturesResponse:
        """The newest features of some entities."""
        with self._gateway.begin("grpc", "features", metadata) as call:
            asked = FeatureRequest(
                features=tuple(request.features),
                entities=entities_of(request.entities),
                at=moment(request),
                full_feature_names=request.full_feature_names,
            )
            views = await self._reads.views(asked.features)
            await admit(self._gateway, call, views, len(asked.entities))
            if request.arrow:
                return pb.GetFeaturesResponse(arrow=arrow_stream(await self._reads.table(asked)))
            return pb.GetFeaturesResponse(columns=columns_of(await self._reads.rows(asked)))

    async def list_views(self, request: pb.ListFeatureViewsRequest, metadata: Metadata) -> pb.ListFeatureViewsResponse:
        """The feature views that can be read."""
        with self._gateway.begin("grpc", "features", metadata):
            catalogue = await self._reads.catalogue()
            views = []
            for served in catalogue.values():
                described = pb.FeatureView(
                    name=served.view.name,
                    version=served.view.version,
                    description=served.view.description,
                    entities=_fields(served.entities),
                    request=_fields(served.request),
                    features=_fields(served.features),
                )
                if served.view.ttl is not None:
                    described.ttl.FromTimedelta(served.view.ttl)
                views.append(described)
            return pb.ListFeatureViewsResponse(views=views)


def _fields(types: dict[str, str]) -> list[pb.Field]:
    return [pb.Field(name=name, type=kind) for name, kind in types.items()]

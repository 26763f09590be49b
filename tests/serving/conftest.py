from __future__ import annotations

from collections.abc import Iterator

import grpc
import httpx
import pytest
from serving_fakes import CONFIG, fake_models

from deepseek.serving import Server
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server(CONFIG.model_copy(update={"grpc_transport": "native"}), fake_models()) as running:
        yield running


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.http_url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session", params=["native", "grpcio"])
def channel(request: pytest.FixtureRequest, server: Server) -> Iterator[grpc.Channel]:
    """A channel to a server of each transport; the first is the one that REST is tested on."""
    if request.param == server.config.grpc_transport:
        address, other = server.grpc_address, None
    else:
        other = Server(CONFIG.model_copy(update={"grpc_transport": request.param}), fake_models()).start()
        address = other.grpc_address
    with grpc.insecure_channel(address) as open_channel:
        yield open_channel
    if other is not None:
        other.stop()


@pytest.fixture(scope="session")
def stub(channel: grpc.Channel) -> pb_grpc.GRPCInferenceServiceStub:
    return pb_grpc.GRPCInferenceServiceStub(channel)

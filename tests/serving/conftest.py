from __future__ import annotations

from collections.abc import Iterator

import grpc
import httpx
import pytest
from serving_fakes import CONFIG, FakeArrays, FakeClassifier

from deepseek.serving import Server
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    models = [FakeClassifier(), FakeClassifier("sentiment", "10"), FakeClassifier("org/topic"), FakeArrays()]
    with Server(CONFIG, models) as running:
        yield running


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.http_url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as open_channel:
        yield open_channel


@pytest.fixture(scope="session")
def stub(channel: grpc.Channel) -> pb_grpc.GRPCInferenceServiceStub:
    return pb_grpc.GRPCInferenceServiceStub(channel)

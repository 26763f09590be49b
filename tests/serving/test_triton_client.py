"""Triton's own client, unchanged, against the server: JSON, binary tensors, gRPC, streams, health, repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from client_environments import TRITON
from serving_fakes import CONFIG, fake_models

from deepseek.serving import Server

SCRIPT = Path(__file__).with_name("triton_client_calls.py")
TEXTS = [text.encode().hex() for text in ("a", "文", "", "d")]


@pytest.fixture(scope="module", params=["native", "grpcio"])
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    TRITON.make()
    with Server(CONFIG.model_copy(update={"grpc_transport": request.param}), fake_models()) as server:
        answers: dict[str, Any] = TRITON.run(
            SCRIPT, server.http_url.removeprefix("http://"), server.grpc_address, timeout=120
        )
    return answers


def test_binary_tensors_and_json(found: dict[str, Any]) -> None:
    http = found["http"]
    assert http["binary"]["x"] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert http["binary"]["n"] == http["json"]["n"] == http["timed"]["n"] == [1, -2]
    assert http["json"]["x"] == http["binary"]["x"]
    assert http["binary"]["tags"] == TEXTS
    assert http["binary"]["blob"] == ["00ff", ""]
    assert http["ids"] == [str(i) for i in range(8)]


def test_grpc_and_its_stream(found: dict[str, Any]) -> None:
    grpc = found["grpc"]
    assert grpc["raw"] == found["http"]["binary"]
    assert grpc["streamed"] == list(range(20))
    assert len(grpc["stream_errors"]) == 1
    assert "Did you mean 'arrays'?" in grpc["stream_errors"][0]


def test_what_the_server_tells_of_itself(found: dict[str, Any]) -> None:
    for side in (found["http"], found["grpc"]):
        assert side["live"] is side["ready"] is side["model_ready"] is True
        assert side["metadata"] == ["1", "10"]
        assert {"sentiment", "arrays", "org/topic"} <= set(side["index"])
        assert int(side["statistics"]) >= 2
        assert "unknown model 'arays'" in side["unknown"][1]
    assert found["http"]["unknown"][0] == "404"
    assert found["grpc"]["unknown"][0] == "StatusCode.NOT_FOUND"
    assert "binary_tensor_data" in found["http"]["extensions"]

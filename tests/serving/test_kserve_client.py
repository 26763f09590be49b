"""KServe's own client, unchanged, against the server: JSON, binary tensors, gRPC, readiness, errors and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from client_environments import KSERVE
from serving_fakes import CONFIG, FakeClassifier, fake_models
from test_keys_on_the_server import TOKEN, create

from deepseek.serving import Server
from deepseek.serving.access.config import AccessConfig

SCRIPT = Path(__file__).with_name("kserve_client_calls.py")
ARRAYS = {
    "x": [[[0, 1], [2, 3]], [[4, 5], [6, 7]]],
    "n": [1, -2],
    "flag": [True, False],
    "tags": ["a", "文", "", "d"],
    "blob": ["", ""],
}
BLOB = {"blob": ["00ff", ""]}
BASE64 = {"blob": ["AP8=", ""]}
"""The same in JSON, where the tensor's parameters say that it is base64; this client leaves that to its user."""


@pytest.fixture(scope="module", params=["native", "grpcio"])
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    KSERVE.make()
    changed = {"grpc_transport": request.param, "model_control": True}
    with Server(CONFIG.model_copy(update=changed), fake_models()) as server:
        answers: dict[str, Any] = KSERVE.run(SCRIPT, "every", server.http_url, server.grpc_address)
        answers["stats"] = httpx.get(f"{server.http_url}/v2/models/sentiment/versions/1/stats").json()["model_stats"]
    return answers


def test_json_over_rest(found: dict[str, Any]) -> None:
    rest = found["rest"]
    assert rest["typed"] == rest["nested"] == rest["arrays"] == ARRAYS
    assert (rest["text"]["label"], rest["slash"]["label"]) == (["AB", "文本"], ["AB"])
    assert rest["text"]["score"] == pytest.approx([0.2, 0.2])
    assert rest["plain"]["label"] == ["A", "BC"]
    assert rest["id"] == "seven"


def test_binary_tensors_over_rest(found: dict[str, Any]) -> None:
    rest = found["rest"]
    assert rest["raw"] == ARRAYS | BASE64
    assert rest["raw_out"] == ARRAYS
    assert rest["raw_type"] == "application/octet-stream"
    assert list(rest["mixed"]) == ["tags", "x", "blob"]
    assert rest["mixed"] == {name: (ARRAYS | BASE64)[name] for name in ("tags", "x", "blob")}
    assert rest["empty"] == [[2, 0, 2], [2]]


def test_typed_and_raw_tensors_over_grpc(found: dict[str, Any]) -> None:
    grpc = found["grpc"]
    assert grpc["typed"] == grpc["arrays"] == ARRAYS
    assert grpc["raw"] == ARRAYS | BLOB


def test_versions_ids_and_outputs(found: dict[str, Any]) -> None:
    grpc = found["grpc"]
    assert grpc["versioned"] == ["sentiment", "1", "7"]
    assert grpc["chosen"] == [["score", pytest.approx([0.1, 0.2])]]
    assert grpc["labels"] == ["A", "BC"]
    assert grpc["newest"] == "10"
    # Three rows over REST, by the version's URL, and two over gRPC.
    assert [int(entry["inference_count"]) for entry in found["stats"]] == [5]


def test_what_the_server_tells_of_itself(found: dict[str, Any]) -> None:
    for side in (found["rest"], found["grpc"]):
        assert side["live"] is side["ready"] is True
    assert found["rest"]["models_ready"] == [True, True, True, False, False]
    assert found["grpc"]["models_ready"] == [True, True]
    assert found["grpc"]["unknown_ready"][:2] == ["AioRpcError", "NOT_FOUND"]
    assert found["grpc"]["server"] == "deepseek"
    assert found["grpc"]["metadata"] == [["1", "10"], [["text", "BYTES", [-1]]]]


def test_models_are_unloaded_by_kserves_messages(found: dict[str, Any]) -> None:
    assert found["grpc"]["unloaded"] == ["org/topic", True]
    assert found["grpc"]["unloaded_again"][1] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("call", "status", "code", "message"),
    [
        ("unknown", 404, "NOT_FOUND", "unknown model 'arays'. Did you mean 'arrays'?"),
        ("unknown_version", 404, "NOT_FOUND", "unknown version of model 'sentiment' '3'"),
        ("missing", 400, "INVALID_ARGUMENT", "missing input 'n' (INT32)"),
        ("refused", 400, "INVALID_ARGUMENT", "expected a good text"),
    ],
)
def test_errors_are_the_clients_exceptions(
    found: dict[str, Any], call: str, status: int, code: str, message: str
) -> None:
    rest, grpc = found["rest"][call], found["grpc"][call]
    assert (rest[:2], grpc[:2]) == (["HTTPStatusError", status], ["AioRpcError", code])
    assert message in rest[2]
    assert message in grpc[2]


def test_the_older_protocol_which_is_the_clients_default_is_refused_with_the_way_out(found: dict[str, Any]) -> None:
    name, status, message = found["rest"]["v1"]
    assert (name, status) == ("HTTPStatusError", 405)
    assert "KServe's v1 protocol is not served, use its v2: POST /v2/models/sentiment/infer" in message
    assert not found["rest"]["v1_ready"]


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_keys_as_headers_and_as_metadata(tmp_path: Path, transport: str) -> None:
    access = AccessConfig.model_validate(
        {
            "mode": "required",
            "store": f"sqlite:///{tmp_path / 'keys.sqlite3'}",
            "admin_token": TOKEN,
            "plans": {"large": {}},
        }
    )
    changed = {"access": access, "admin_port": 0, "grpc_transport": transport}
    with Server(CONFIG.model_copy(update=changed), [FakeClassifier(), FakeClassifier("other")]) as server:
        key = create(server, models=["senti*"])
        answers = KSERVE.run(SCRIPT, "keys", server.http_url, server.grpc_address, key)
    assert answers["rest"] == answers["grpc"] == [["A"], ["A"]]
    assert [error[:2] for error in answers["rest_errors"]] == [
        ["HTTPStatusError", 401],
        ["HTTPStatusError", 401],
        ["HTTPStatusError", 403],
    ]
    assert [error[:2] for error in answers["grpc_errors"]] == [
        ["AioRpcError", "UNAUTHENTICATED"],
        ["AioRpcError", "UNAUTHENTICATED"],
        ["AioRpcError", "PERMISSION_DENIED"],
    ]
    assert answers["rest_health"] == answers["grpc_health"] == [True, True]

"""A server that needs keys: both protocols, scopes, limits, usage, the admin port; and when keys are needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from serving_fakes import CONFIG, FakeClassifier
from test_grpc_routes import infer_request

from deepseek.serving import Server
from deepseek.serving.access.config import AccessConfig
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc

TASK = "/v1/tasks/text-classification"
TOKEN = "an admin token of many characters"
TEXT = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Server]:
    access = AccessConfig.model_validate(
        {
            "mode": "required",
            "store": f"sqlite:///{tmp_path / 'keys.sqlite3'}",
            "admin_token": TOKEN,
            "plans": {"tiny": {"requests_per_minute": 2}, "large": {}},
        }
    )
    config = CONFIG.model_copy(update={"access": access, "admin_port": 0, "model_control": True})
    with Server(config, [FakeClassifier(), FakeClassifier("other")]) as server:
        yield server


def create(server: Server, **fields: Any) -> str:
    body = {"name": "test", "plan": "large"} | fields
    answer = httpx.post(f"{server.admin_url}/keys", json=body, headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", TASK),
        ("POST", "/v2/models/sentiment/infer"),
        ("POST", "/v2/models/sentiment/labels"),
        ("GET", "/v2/models/sentiment"),
        ("GET", "/v2/models/sentiment/stats"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/sentiment/unload"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
    ],
)
def test_nothing_but_health_is_told_without_a_key(locked: Server, method: str, path: str) -> None:
    with httpx.Client(base_url=locked.http_url) as http:
        for headers in ({}, bearer("ds_0000000000000000_wrong"), {"authorization": "Basic eDp5"}):
            answer = http.request(method, path, json={"inputs": "a"} if method == "POST" else None, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert http.get("/v2/health/ready").status_code == 200
        assert http.get("/v2/models/sentiment/ready").status_code == 200


def test_a_key_opens_what_its_scopes_cover_on_both_protocols(locked: Server) -> None:
    key = create(locked, models=["senti*"])
    with httpx.Client(base_url=locked.http_url, headers=bearer(key)) as http:
        assert http.post(TASK, json={"inputs": "a", "model": "sentiment"}).status_code == 200
        assert http.post(TASK, json={"inputs": "a", "model": "other"}).status_code == 403
        assert http.post("/v2/models/other/infer", json={"inputs": [TEXT]}).status_code == 403
        assert http.post("/v2/repository/models/other/unload").status_code == 403
        assert http.get("/v2/models/sentiment").status_code == 200
    assert httpx.post(locked.http_url + TASK, json={"inputs": "a"}, headers={"x-api-key": key}).status_code == 200
    with grpc.insecure_channel(locked.grpc_address) as channel:
        stub: Any = pb_grpc.GRPCInferenceServiceStub(channel)
        metadata = (("authorization", f"Bearer {key}"),)
        assert stub.ModelInfer(infer_request(["a"]), metadata=metadata).model_name == "sentiment"
        expected = {
            grpc.StatusCode.UNAUTHENTICATED: (infer_request(["a"]), ()),
            grpc.StatusCode.PERMISSION_DENIED: (infer_request(["a"], "other"), metadata),
        }
        for code, (request, given) in expected.items():
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(request, metadata=given)
            assert caught.value.code() == code  # type: ignore[attr-defined]
        answers = list(stub.ModelStreamInfer(iter([infer_request(["a"]), infer_request(["b"], "other")])))
        assert all("key" in answer.error_message for answer in answers)
        with pytest.raises(grpc.RpcError):
            stub.ModelMetadata(pb.ModelMetadataRequest(name="sentiment"))


def test_limits_count_both_protocols_and_say_when_to_come_again(locked: Server) -> None:
    key = create(locked, plan="tiny")
    with httpx.Client(base_url=locked.http_url, headers=bearer(key)) as http:
        assert http.post(TASK, json={"inputs": "a"}).status_code == 200
        with grpc.insecure_channel(locked.grpc_address) as channel:
            stub: Any = pb_grpc.GRPCInferenceServiceStub(channel)
            metadata = (("authorization", f"Bearer {key}"),)
            stub.ModelInfer(infer_request(["a"]), metadata=metadata)
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(infer_request(["a"]), metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
        trailing = dict(caught.value.trailing_metadata())  # type: ignore[attr-defined]
        assert 0 < int(trailing["retry-after"]) <= 61
        refused = http.post(TASK, json={"inputs": "a"})
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 61
        assert "requests" in refused.json()["error"]


def test_usage_is_metered_by_key_and_model(locked: Server) -> None:
    key = create(locked, name="customer")
    with httpx.Client(base_url=locked.http_url, headers=bearer(key)) as http:
        http.post(TASK, json={"inputs": ["a", "b", "c"], "model": "sentiment"})
        http.post("/v2/models/other/infer", json={"inputs": [TEXT]})
        http.post(TASK, json={"inputs": "bad", "model": "sentiment"})
    end = time.monotonic() + 30  # counts are written every half second
    while True:
        answer = httpx.get(f"{locked.admin_url}/usage", headers={"authorization": f"Bearer {TOKEN}"})
        rows = {row["model"]: (row["requests"], row["inferences"]) for row in answer.json()["usage"]}
        if rows == {"sentiment": (1, 3), "other": (1, 1)}:
            return
        assert time.monotonic() < end, rows
        time.sleep(0.1)


def test_a_revoked_key_is_refused_at_once(locked: Server) -> None:
    key = create(locked)
    admin = {"authorization": f"Bearer {TOKEN}"}
    assert httpx.post(locked.http_url + TASK, json={"inputs": "a"}, headers=bearer(key)).status_code == 200
    key_id = key.split("_")[1]
    assert httpx.delete(f"{locked.admin_url}/keys/{key_id}", headers=admin).status_code in (200, 204)
    assert httpx.post(locked.http_url + TASK, json={"inputs": "a"}, headers=bearer(key)).status_code == 401


def test_the_admin_port_takes_the_token_alone(locked: Server) -> None:
    key = create(locked)
    for headers in ({}, bearer(key), bearer("wrong")):
        assert httpx.get(f"{locked.admin_url}/keys", headers=headers).status_code == 401
    assert httpx.post(locked.http_url + TASK, json={"inputs": "a"}, headers=bearer(TOKEN)).status_code == 401


def test_keys_are_needed_where_others_can_come(tmp_path: Path) -> None:
    store = {"store": f"sqlite:///{tmp_path / 'keys.sqlite3'}"}
    for host, changed, status in (
        ("127.0.0.1", {}, 200),
        ("0.0.0.0", {}, 401),
        ("0.0.0.0", {"mode": "off"}, 200),
    ):
        access = AccessConfig.model_validate(store | changed)
        with Server(CONFIG.model_copy(update={"host": host, "access": access}), [FakeClassifier()]) as server:
            assert server.admin_url is None
            assert httpx.post(server.http_url + TASK, json={"inputs": "a"}).status_code == status

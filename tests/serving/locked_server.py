"""What tests of a server with keys do again and again: settings, keys by the admin port, requests, usage, labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
from fault_server import Process
from test_grpc_routes import infer_request

from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc

TASK = "/v1/tasks/text-classification"
TOKEN = "an admin token of many characters"


def access(folder: Path, **plans: Mapping[str, int]) -> dict[str, Any]:
    """Settings of a server that asks for keys and has them in a folder."""
    return {
        "mode": "required",
        "store": f"sqlite:///{folder / 'keys.sqlite3'}",
        "admin_token": TOKEN,
        "plans": {"large": {}, **plans},
    }


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


class Operator:
    """Whoever has the admin token."""

    def __init__(self, process: Process) -> None:
        self._http = httpx.Client(base_url=process.admin, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30)

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def ask_for_key(self, **fields: Any) -> httpx.Response:
        return self._http.post("/keys", json={"name": "test", "plan": "large"} | fields)

    def key(self, **fields: Any) -> str:
        answer = self.ask_for_key(**fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def revoke(self, key: str) -> httpx.Response:
        return self._http.delete(f"/keys/{key.split('_')[1]}")

    def usage(self, key: str = "", first: str = "", last: str = "") -> int:
        """Requests of all keys or one, of the last 30 days or of those given."""
        asked = {"key": key.split("_")[1]} if key else {}
        answer = self._http.get("/usage", params=asked | ({"from": first, "to": last} if first else {}))
        assert answer.status_code == 200, answer.text
        return sum(row["requests"] for row in answer.json()["usage"])


class Client:
    """A holder of a key, on both protocols; counts what it was answered."""

    def __init__(self, process: Process, key: str) -> None:
        self.http = httpx.Client(base_url=process.url, headers={"authorization": f"Bearer {key}"}, timeout=60)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._channel = grpc.insecure_channel(process.grpc, [("grpc.use_local_subchannel_pool", 1)])
        self._stub: Any = pb_grpc.GRPCInferenceServiceStub(self._channel)
        self.acknowledged = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()
        self._channel.close()

    def rest(self, request_id: str = "", text: str = "a") -> httpx.Response:
        headers = {"x-request-id": request_id} if request_id else {}
        answer = self.http.post(TASK, json={"inputs": text, "model": "sentiment"}, headers=headers)
        self.acknowledged += answer.status_code == 200
        return answer

    def grpc(self, text: str = "hi") -> str:
        """The status of a call."""
        try:
            answer = self._stub.ModelInfer(infer_request([text]), metadata=self._metadata, timeout=60)
        except grpc.RpcError as error:
            return str(error.code().name)  # type: ignore[attr-defined]
        assert answer.outputs[0].contents.bytes_contents[0] == text.upper().encode()
        self.acknowledged += 1
        return "OK"

    def labels(self, request_ids: list[str], truth: str = "A") -> dict[str, int]:
        """Tell the true answers; how many were joined, late, unknown, duplicate, invalid."""
        labels = [{"id": request_id, "truth": truth} for request_id in request_ids]
        answer = self.http.post("/v2/models/sentiment/labels", json={"labels": labels})
        assert answer.status_code == 200, answer.text
        self.acknowledged += 1
        return dict(answer.json())

"""Every REST route and status, through a real server on loopback."""

from __future__ import annotations

import asyncio
import http.client
import time
from urllib.parse import urlsplit

import httpx
import pytest
from serving_fakes import CONFIG, FakeClassifier, classify

from deepseek.serving import Server, ServingConfig

TENSOR = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "bcd"]}
TASK = "/v1/tasks/text-classification"
INFER = "/v2/models/sentiment/infer"


def test_server_and_model_information(http: httpx.Client) -> None:
    assert http.get("/v2").json()["name"] == "deepseek"
    assert http.get("/v2/").status_code == 200
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    metadata = http.get("/v2/models/sentiment").json()
    assert metadata["versions"] == ["1", "10"]
    assert metadata["platform"] == "fake"
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["outputs"][2] == {"name": "scores", "datatype": "FP32", "shape": [-1, 2]}
    assert http.get("/v2/models/sentiment/versions/1").json() == metadata
    assert http.get("/v2/models/sentiment/ready").json() == {"name": "sentiment", "ready": True}
    assert http.get("/v2/models/sentiment/versions/10/ready").status_code == 200
    assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["arrays", "org/topic", "sentiment"]
    assert "POST /v1/tasks/{task}" in http.get("/").json()["urls"]
    head = http.head("/v2")
    assert (head.status_code, head.content) == (200, b"")


def test_openapi_names_every_route(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    for path in ("/v2/health/ready", INFER, "/v2/models/sentiment/versions/10/infer", TASK, "/v1/tasks/echo"):
        assert path in document["paths"]
    body = document["paths"]["/v1/tasks/echo"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["inputs"]["anyOf"][0]["required"] == ["x", "n"]


def test_infer(http: httpx.Client) -> None:
    answer = http.post(INFER, json={"id": "7", "inputs": [TENSOR]}).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("sentiment", "10", "7")
    assert answer["outputs"][0] == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["A", "BCD"]}
    assert answer["outputs"][2]["shape"] == [2, 2]
    older = http.post(
        "/v2/models/sentiment/versions/1/infer", json={"inputs": [TENSOR], "outputs": [{"name": "label"}]}
    )
    assert older.json()["model_version"] == "1"
    assert [output["name"] for output in older.json()["outputs"]] == ["label"]
    assert "id" not in older.json()
    for slash in ("/", "%2F"):
        assert http.post(f"/v2/models/org{slash}topic/infer", json={"inputs": [TENSOR]}).status_code == 200


@pytest.mark.parametrize("inputs", ["a", ["a"], {"text": "a"}, [{"text": "a"}]])
def test_task_takes_every_form_and_returns_a_list(http: httpx.Client, inputs: object) -> None:
    answer = http.post(TASK, json={"inputs": inputs, "parameters": {"temperature": 2}})
    assert answer.json() == {"model": "sentiment", "outputs": [classify("a", {"temperature": 2})]}


def test_task_with_arrays_and_with_a_named_model(http: httpx.Client) -> None:
    answer = http.post("/v1/tasks/echo", json={"inputs": {"x": [[1, 2], [3, 4]], "n": 5, "tags": ["a", "b"]}})
    assert answer.json()["outputs"][0] == {"x": [[1, 2], [3, 4]], "n": 5, "flag": False, "tags": ["a", "b"], "blob": ""}
    assert http.post(TASK, json={"inputs": "a", "model": "org/topic"}).json()["model"] == "org/topic"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", INFER, b"{", 400, "not an OIP v2 inference request"),
        ("POST", INFER, b"", 400, "empty"),
        ("POST", INFER, b'"\xff"', 400, "not an OIP v2"),
        ("POST", INFER, {"inputs": [TENSOR | {"datatype": "INT64"}]}, 400, "expected datatype BYTES"),
        ("POST", INFER, {"inputs": [TENSOR | {"shape": [3]}]}, 400, "expected 3 elements"),
        ("POST", INFER, {"inputs": [TENSOR | {"data": ["bad one", "ok"]}]}, 400, "expected a good text"),
        ("POST", TASK, b"[]", 400, "not a task request"),
        ("POST", TASK, {"inputs": "a", "modle": "x"}, 400, "unknown field `modle`"),
        ("POST", TASK, {"inputs": []}, 400, "at least one row"),
        ("POST", TASK, {"inputs": "a", "model": "arrays"}, 400, "does 'echo', not 'text-classification'"),
        ("POST", TASK, {"inputs": "a", "parameters": {"nope": 1}}, 400, "unknown parameter 'nope'"),
        ("POST", TASK, {"inputs": "a", "model": "org/topik"}, 404, "Did you mean 'org/topic'?"),
        ("POST", "/v1/tasks/text-clasification", {"inputs": "a"}, 404, "Did you mean 'text-classification'?"),
        ("POST", "/v2/models/sentimnt/infer", {"inputs": [TENSOR]}, 404, "Did you mean 'sentiment'?"),
        ("GET", "/v2/models/sentimnt", None, 404, "unknown model 'sentimnt'"),
        ("GET", "/v2/models/sentiment/versions/2", None, 404, "unknown version of model 'sentiment' '2'"),
        ("GET", "/v2/helth/live", None, 404, "Did you mean '/v2/health/live'"),
        ("POST", "/nowhere", {"inputs": "a"}, 404, "unknown URL"),
        ("GET", INFER, None, 405, "expected POST"),
        ("DELETE", "/v2", None, 405, "expected GET, HEAD"),
        ("POST", "/v2/health/ready", {}, 405, "expected GET, HEAD"),
    ],
)
def test_refusals(http: httpx.Client, method: str, path: str, body: object, status: int, message: str) -> None:
    content = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    answer = http.request(method, path, **content)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    if status == 405:
        assert answer.headers["allow"] == ("POST" if path == INFER else "GET, HEAD")
    assert http.get("/v2/health/live").status_code == 200


def test_other_media_types_are_refused(http: httpx.Client) -> None:
    for headers, message in [
        ({"content-type": "text/plain"}, "expected content-type application/json, received 'text/plain'"),
        ({"content-encoding": "gzip"}, "expected an uncompressed body"),
    ]:
        answer = http.post(INFER, content=b"{}", headers=headers)
        assert answer.status_code == 415
        assert message in answer.json()["error"]
    for kind in ("application/json; charset=utf-8", "application/vnd.api+json"):
        assert http.post(TASK, content=b'{"inputs": "a"}', headers={"content-type": kind}).status_code == 200


def test_bodies_over_the_limit_are_refused_by_length_and_while_reading(http: httpx.Client) -> None:
    limit = CONFIG.max_body_bytes
    fits = b'{"inputs": "' + b"a" * (limit - 14) + b'"}'
    assert len(fits) == limit
    assert http.post(TASK, content=fits).status_code == 200
    for body in (b"a" * (limit + 1), b"a" * (6 * limit), iter([b"a" * 20_000] * 5)):
        answer = http.post(TASK, content=body)
        assert answer.status_code == 413
        assert f"at most {limit} bytes" in answer.json()["error"]
        assert http.get("/v2/health/live").status_code == 200
    chunked = http.post(TASK, content=iter([b'{"inputs":', b' "a"}']))
    assert chunked.json()["outputs"] == [classify("a")]


def test_a_fault_of_the_model_is_logged_but_not_told(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    answer = http.post(TASK, json={"inputs": "crash"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    incident = answer.json()["error"].rsplit(" ", 1)[1]
    record = next(record for record in caplog.records if incident in record.getMessage())
    assert "a secret of the implementation" in str(record.exc_info)


def test_many_requests_at_once(server: Server) -> None:
    async def run() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=server.http_url, timeout=60, limits=limits) as client:
            bodies = [{"inputs": f"text {i}" if i % 10 else "bad"} for i in range(200)]
            return await asyncio.gather(*(client.post(TASK, json=body) for body in bodies))

    for i, answer in enumerate(asyncio.run(run())):
        if i % 10:
            assert answer.json()["outputs"] == [classify(f"text {i}")]
        else:
            assert answer.status_code == 400


def _until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.01)


def test_a_full_queue_says_when_to_retry_and_a_client_that_leaves_makes_room() -> None:
    import threading

    model = FakeClassifier()
    with Server(ServingConfig(http_port=0, grpc_port=0, max_batch_size=1, max_queue=1), [model]) as server:
        model.gate = threading.Event()
        batcher = server.repository.get("sentiment").batcher

        def leave_behind(text: str) -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection(urlsplit(server.http_url).netloc, timeout=30)
            connection.request("POST", TASK, f'{{"inputs": "{text}"}}', {"content-type": "application/json"})
            return connection

        running = leave_behind("running")
        _until(lambda: len(model.batches) == 2)  # the first was the warm-up
        waiting = leave_behind("waiting")
        _until(lambda: batcher.queued_rows == 1)
        refused = httpx.post(server.http_url + TASK, json={"inputs": "c"})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "1 rows waiting of at most 1" in refused.json()["error"]
        waiting.close()
        _until(lambda: batcher.queued_rows == 0)
        model.gate.set()
        assert running.getresponse().status == 200
        running.close()
        assert httpx.post(server.http_url + TASK, json={"inputs": "c"}).status_code == 200
        assert len(model.batches) == 3, "the row of the client that left was run"

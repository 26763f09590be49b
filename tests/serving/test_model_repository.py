"""Models loaded, swapped and unloaded while the server answers, over both protocols."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from serving_fakes import CONFIG, FakeClassifier

from deepseek.errors import BundleError, ConfigError
from deepseek.serving import ModelRepository, Server
from deepseek.serving.models.sources import NamedSource
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc

TASK = "/v1/tasks/text-classification"
REPOSITORY = "/v2/repository/models/"


class Source:
    """Gives a new version each time it is asked, or fails."""

    def __init__(self, name: str = "sentiment") -> None:
        self.name = name
        self.loaded: list[FakeClassifier] = []
        self.failure: Exception | None = None
        self.closed: list[str] = []

    def load(self) -> FakeClassifier:
        if self.failure is not None:
            raise self.failure
        model = FakeClassifier(self.name, str(len(self.loaded) + 1))
        model.close = lambda: self.closed.append(model.version)  # type: ignore[attr-defined]
        self.loaded.append(model)
        return model


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def swapping(source: Source) -> Iterator[Server]:
    config = CONFIG.model_copy(update={"model_control": True, "max_queue": 4096})
    server = Server(config, [source.load()], sources=[source, Source("other")])
    with server as running:
        yield running


def test_the_index_tells_what_is_served_and_what_could_be(swapping: Server) -> None:
    url = swapping.http_url + "/v2/repository/index"
    assert httpx.post(url).json() == [
        {"name": "sentiment", "version": "1", "state": "READY", "reason": ""},
        {"name": "other", "version": "", "state": "UNAVAILABLE", "reason": "unloaded"},
    ]
    assert [entry["name"] for entry in httpx.post(url, json={"ready": True}).json()] == ["sentiment"]
    assert httpx.post(url, content=b"[").status_code == 400


def test_loading_again_swaps_and_unloading_frees(swapping: Server, source: Source) -> None:
    with httpx.Client(base_url=swapping.http_url) as http:
        assert http.post(REPOSITORY + "sentiment/load").json() == {}
        assert http.get("/v2/models/sentiment").json()["versions"] == ["2"]
        assert source.closed == ["1"]
        assert http.post(REPOSITORY + "other/load", json={}).status_code == 200
        assert http.post(TASK, json={"inputs": "a", "model": "other"}).json()["model"] == "other"
        assert http.post(REPOSITORY + "sentiment/unload").status_code == 200
        assert source.closed == ["1", "2"]
        assert http.post(TASK, json={"inputs": "a", "model": "sentiment"}).status_code == 404
        assert http.post(REPOSITORY + "sentiment/unload").status_code == 404
        unknown = http.post(REPOSITORY + "othr/load")
        assert unknown.status_code == 404
        assert "Did you mean 'other'?" in unknown.json()["error"]


@dataclass(frozen=True)
class Loader:
    """As the command's: it cannot be hashed, nor can a source that has it."""

    settings: dict[str, str] = field(default_factory=dict)

    def __call__(self, model: str, name: str) -> FakeClassifier:
        return FakeClassifier(name)


def test_a_named_source_is_unloaded_as_any_other() -> None:
    config = CONFIG.model_copy(update={"model_control": True})
    sources = [NamedSource(name, name, Loader()) for name in ("sentiment", "other")]
    with Server(config, sources=sources, load=["sentiment", "other"]) as server:
        assert httpx.post(server.http_url + REPOSITORY + "sentiment/unload").status_code == 200
        assert server.repository.names == ["other"]


def test_what_was_served_goes_on_when_loading_fails(swapping: Server, source: Source) -> None:
    source.failure = BundleError("the bundle is damaged")
    with httpx.Client(base_url=swapping.http_url) as http:
        failed = http.post(REPOSITORY + "sentiment/load")
        assert (failed.status_code, failed.json()["error"]) == (400, "the bundle is damaged")
        assert http.post(TASK, json={"inputs": "a"}).status_code == 200
        assert http.post(REPOSITORY + "sentiment/unload").status_code == 200
        reasons = {entry["name"]: entry["reason"] for entry in http.post("/v2/repository/index").json()}
        assert reasons["sentiment"] == "the bundle is damaged"


def test_no_request_is_lost_while_models_are_swapped(swapping: Server, source: Source) -> None:
    stop = threading.Event()

    def ask() -> list[int]:
        statuses = []
        with httpx.Client(base_url=swapping.http_url) as http:
            while not stop.is_set():
                statuses.append(http.post(TASK, json={"inputs": "a"}).status_code)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        with httpx.Client(base_url=swapping.http_url) as http:
            for _ in range(10):
                assert http.post(REPOSITORY + "sentiment/load").status_code == 200
        stop.set()
        statuses = [status for each in asking for status in each.result()]
    assert set(statuses) == {200}
    assert len(source.loaded) == 11
    assert len(source.closed) == 10


def test_the_same_over_grpc(swapping: Server, source: Source) -> None:
    with grpc.insecure_channel(swapping.grpc_address) as channel:
        stub: Any = pb_grpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="sentiment"))
        assert stub.ModelMetadata(pb.ModelMetadataRequest(name="sentiment")).versions == ["2"]
        # KServe's protocol has the name in the first field
        answer = stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(repository_name="other"))
        assert (answer.model_name, answer.is_loaded) == ("other", True)
        states = {m.name: m.state for m in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models}
        assert states == {"sentiment": "READY", "other": "READY"}
        stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="other"))
        index = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
        assert [m.name for m in index] == ["sentiment"]


def test_clients_change_nothing_unless_the_server_allows_it(http: httpx.Client, stub: Any) -> None:
    refused = http.post(REPOSITORY + "sentiment/unload")
    assert refused.status_code == 403
    assert "model_control" in refused.json()["error"]
    with pytest.raises(grpc.RpcError) as caught:
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="sentiment"))
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED  # type: ignore[attr-defined]


def test_statistics_count_rows_batches_and_failures(swapping: Server) -> None:
    with httpx.Client(base_url=swapping.http_url) as http:
        assert http.post(TASK, json={"inputs": ["a", "b", "c"]}).status_code == 200
        assert http.post(TASK, json={"inputs": "bad"}).status_code == 400
        told = http.get("/v2/models/sentiment/stats").json()["model_stats"]
        assert [(s["name"], s["version"], s["inference_count"]) for s in told] == [("sentiment", "1", 3)]
        assert told[0]["execution_count"] == 3  # the warm-up, and two requests
        durations = told[0]["inference_stats"]
        assert (durations["success"]["count"], durations["fail"]["count"]) == (1, 1)
        assert durations["compute_infer"]["ns"] > 0
        assert http.get("/v2/models/stats").json()["model_stats"] == told
        assert http.get("/v2/models/nope/stats").status_code == 404
    with grpc.insecure_channel(swapping.grpc_address) as channel:
        stub: Any = pb_grpc.GRPCInferenceServiceStub(channel)
        stats = stub.ModelStatistics(pb.ModelStatisticsRequest(name="sentiment")).model_stats[0]
        assert (stats.inference_count, stats.inference_stats.fail.count) == (3, 1)


def test_two_sources_of_one_name_are_refused() -> None:
    repository = ModelRepository(CONFIG)
    repository.register(Source())
    with pytest.raises(ConfigError, match="two sources"):
        repository.register(Source())


def test_pages_of_other_origins_change_nothing(swapping: Server) -> None:
    with httpx.Client(base_url=swapping.http_url) as http:
        for origin in ("https://elsewhere.example", "null", "http://127.0.0.1:1"):
            refused = http.post(REPOSITORY + "sentiment/unload", headers={"origin": origin})
            assert refused.status_code == 403
            assert "another origin" in refused.json()["error"]
        assert http.post(REPOSITORY + "sentiment/load", headers={"origin": swapping.http_url}).status_code == 200

"""Feature reads over REST and gRPC: the same answers as from the feature store, and clear refusals."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pyarrow as pa
import pytest
from feature_fakes import FAILS, HOUR, NOW, feature_store
from serving_fakes import CONFIG, FakeClassifier

from deepseek.data.features import FeatureStore
from deepseek.errors import OnlineStoreError, UnknownNameError
from deepseek.serving import Server
from deepseek.serving.features.config import FeatureServingConfig
from deepseek.serving.features.grpc_service import FeatureService
from deepseek.serving.features.permission import resource
from deepseek.serving.features.reads import FeatureReads
from deepseek.serving.gateway import Gateway
from deepseek.serving.grpc.aio_front import AioFront
from deepseek.serving.lifecycle import Lifecycle, Phase
from deepseek.serving.models.repository import ModelRepository
from deepseek.serving.proto import features_pb2 as pb
from deepseek.serving.proto import features_pb2_grpc as pb_grpc

ARROW = {"accept": "application/vnd.apache.arrow.stream"}
URL = "/v1/features/customers"
SALES = {"shop": "a", "day": "2026-01-01", "code": {"base64": "AQ=="}, "limit": 40.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[FeatureStore]:
    made = feature_store(folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def config(store: FeatureStore) -> FeatureServingConfig:
    return FeatureServingConfig(path=store.path, max_entities=100)


@pytest.fixture(scope="module")
def http(config: FeatureServingConfig) -> Iterator[httpx.Client]:
    settings = CONFIG.model_copy(update={"features": config})
    with Server(settings, [FakeClassifier()]) as server, httpx.Client(base_url=server.http_url, timeout=30) as client:
        yield client


def test_a_read_of_one_and_of_many(http: httpx.Client, store: FeatureStore) -> None:
    names = ["city", "visits", "vip", "vector", "tags"]
    body = {"entities": [{"customer": 2}, {"customer": 1}, {"customer": 99}], "features": names}
    rows = http.post(URL, json=body).json()["rows"]
    assert rows == store.online([f"customers:{name}" for name in names], body["entities"])
    assert rows[1] == {
        "customer": 1,
        "city": "Paris",
        "visits": 3,
        "vip": True,
        "vector": [0.25, 0.5],
        "tags": ["a", "b"],
    }
    assert rows[2] == {"customer": 99} | dict.fromkeys(names)
    by_column = body | {"entities": {"customer": [2, 1, 99]}}
    assert http.post(URL, json=by_column).json()["rows"] == rows
    many = [{"customer": at % 4} for at in range(100)]  # more than are read on the event loop
    assert http.post(URL, json={"entities": many, "features": names}).json()["rows"] == store.online(
        [f"customers:{name}" for name in names], many
    )


def test_every_type_in_json(http: httpx.Client) -> None:
    (row,) = http.post(URL, json={"entities": [{"customer": 1}]}).json()["rows"]
    assert row["since"] == "2020-02-29"
    assert dt.datetime.fromisoformat(row["seen"]) == NOW - 2 * HOUR
    assert row["balance"] == "1.50"
    assert base64.b64decode(row["photo"]) == b"\x00\xff"
    assert row["count"] == 2**64 - 1
    assert row["stay"] == "PT5400S"
    assert row["home"] == {"x": 1, "y": "a"}
    (row,) = http.post(URL, json={"entities": [{"customer": 2}]}).json()["rows"]
    assert row["score"] is None  # JSON has no NaN


def test_what_is_older_than_the_time_to_live_is_null_unless_an_earlier_time_is_asked_for(http: httpx.Client) -> None:
    body: dict[str, Any] = {"entities": [{"customer": 3}], "features": ["city"]}
    assert http.post(URL, json=body).json()["rows"] == [{"customer": 3, "city": None}]
    at = (NOW - 20 * HOUR).isoformat()
    assert http.post(URL, json=body | {"at": at}).json()["rows"] == [{"customer": 3, "city": "Rome"}]
    before = http.post(URL, json=body | {"at": (NOW - 50 * HOUR).isoformat()})
    assert before.status_code == 400
    assert "the online store keeps the newest row" in before.json()["error"].lower()


def test_a_query_string(http: httpx.Client) -> None:
    answer = http.get(URL, params={"entity": ["1", "2"], "feature": ["city", "visits"]})
    assert answer.json()["rows"] == [
        {"customer": 1, "city": "Paris", "visits": 3},
        {"customer": 2, "city": None, "visits": 2**40},
    ]
    full = http.get(URL, params={"entity": '{"customer": 1}', "feature": "city", "full_feature_names": "true"})
    assert full.json()["rows"] == [{"customer": 1, "customers__city": "Paris"}]
    sales = http.get("/v1/features/sales", params={"entity": json.dumps(SALES), "feature": "share"})
    assert sales.json()["rows"][0]["share"] == 0.25
    assert http.get(f"{URL}@1", params={"entity": "1", "feature": "city"}).json()["rows"][0]["city"] == "Paris"


def test_several_views_keys_of_other_types_and_transformations(http: httpx.Client) -> None:
    entities = [SALES | {"customer": 1}, SALES | {"customer": 1, "day": "2026-01-02"}]
    features = ["customers:city", "sales:share", "sales:sales"]
    rows = http.post("/v1/features", json={"entities": entities, "features": features}).json()["rows"]
    assert [(row["city"], row["share"], row["sales"]) for row in rows] == [("Paris", 0.25, 10.0), ("Paris", None, None)]
    assert rows[0]["day"] == "2026-01-01"


def test_a_transformation_that_fails_is_logged_but_not_told(
    http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    answer = http.post("/v1/features/sales", json={"entities": [SALES | {"limit": FAILS}]})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    incident = answer.json()["error"].rsplit(" ", 1)[1]
    record = next(record for record in caplog.records if incident in record.getMessage())
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    assert "a secret of the implementation" in str(record.exc_info[1].__cause__)


def test_arrow(http: httpx.Client, store: FeatureStore) -> None:
    entities = [{"customer": 1}, {"customer": 99}]
    for answer in (
        http.post(URL, json={"entities": entities}, headers=ARROW),
        http.get(URL, params={"entity": ["1", "99"]}, headers=ARROW),
    ):
        assert answer.headers["content-type"] == ARROW["accept"]
        assert pa.ipc.open_stream(answer.content).read_all().equals(store.online_batch("customers", entities))


def test_the_views_are_described(http: httpx.Client) -> None:
    views = {view["name"]: view for view in http.get("/v1/features").json()["views"]}
    assert list(views) == ["customers", "sales", "visits"]
    assert views["customers"]["entities"] == {"customer": "int64"}
    assert views["customers"]["ttl_seconds"] == 86400
    assert views["sales"]["request"] == {"limit": "double"} or views["sales"]["request"] == {"limit": "float64"}
    assert views["visits"]["features"] == {}  # not materialised
    assert http.get(URL).json() == views["customers"]
    assert "POST /v1/features[/{view}]" in http.get("/").json()["urls"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/features/custmers", {"entities": [{"customer": 1}]}, 404, "Did you mean 'customers'?"),
        ("/v1/features/..%2f..%2fetc", {"entities": [{"customer": 1}]}, 400, "features: expected"),
        ("/v1/features/visits", {"entities": [{"customer": 1}]}, 503, "not materialised"),
        (f"{URL}@7", {"entities": [{"customer": 1}]}, 404, "unknown version"),
        (URL, {"entities": [{"customer": 1}], "features": ["ctiy"]}, 404, "Did you mean 'city'?"),
        (URL, {"entities": [{"customer": 1}], "features": []}, 400, "expected at least one"),
        (URL, {"entities": [{"customer": 1}], "features": ["city"] * 257}, 400, "at most 256"),
        ("/v1/features", {"entities": [{"customer": 1}]}, 400, "expected at least one"),
        (URL, {"entities": []}, 400, "expected 1 to 100, received 0"),
        (URL, {"entities": [{"customer": 1}] * 101}, 400, "expected 1 to 100, received 101"),
        (URL, {"entities": {"customer": [1], "x": [1, 2]}}, 400, "columns of one length"),
        (
            URL,
            {"entities": [{"customer": 1}, {"custmer": 1}]},
            400,
            "entities[1]: unknown column 'custmer'; did you mean 'customer'",
        ),
        (URL, {"entities": [{}]}, 400, "lacks the entity column 'customer'"),
        (URL, {"entities": [{"customer": "one"}]}, 400, "entity column 'customer': expected int64"),
        (URL, {"entities": [{"customer": 2**63}]}, 400, "'customer': expected int64 (-9223372036854775808 to"),
        (URL, {"entities": [{"customer": 1}], "at": "yesterday"}, 400, "not a request for features"),
        (URL, {"entities": [{"customer": 1}], "when": 1}, 400, "unknown field `when`"),
        ("/v1/features/sales", {"entities": [SALES | {"day": "2026-02-30"}]}, 400, "entity column 'day'"),
        ("/v1/features/sales", {"entities": [SALES | {"code": 5}]}, 400, "entity column 'code'"),
        ("/v1/features/sales", {"entities": [SALES | {"limit": "x"}]}, 400, "limit"),
    ],
)
def test_refusals(http: httpx.Client, folder: Path, path: str, body: Any, status: int, message: str) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]
    assert str(folder) not in answer.text, "a path of the server was told"
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        (URL, {"entity": "one"}, "expected a value of 'customer' (int64), received 'one'"),
        (URL, {"entity": ["1", '{"customer": 1}']}, "received both"),
        (URL, {"entity": "{"}, "expected a value or a JSON object"),
        (URL, {"feature": "city"}, "at least one entity"),
        (URL, {"entity": "1", "at": "noon"}, "at: "),
        (URL, {"entity": "1", "full_feature_names": "perhaps"}, "full_feature_names: "),
        (URL, {"entity": "1", "limit": "1"}, "unknown query parameter 'limit'"),
        (URL, "entity=%ff", "query string"),
        ("/v1/features/sales", {"entity": "a"}, "key columns shop, day, code"),
    ],
)
def test_wrong_query_strings(http: httpx.Client, path: str, query: Any, message: str) -> None:
    answer = http.get(path, params=query) if isinstance(query, dict) else http.get(f"{path}?{query}")
    assert (answer.status_code, message in answer.json()["error"]) == (400, True), answer.text


def test_other_methods(http: httpx.Client) -> None:
    answer = http.delete(URL)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")


def test_a_server_without_a_feature_store_has_no_such_urls() -> None:
    with Server(CONFIG, [FakeClassifier()]) as server:
        assert httpx.get(server.http_url + "/v1/features").status_code == 404


def test_only_the_views_that_are_named_are_served(store: FeatureStore) -> None:
    reads = FeatureReads(FeatureServingConfig(path=store.path, views=("sales",)))
    try:
        assert list(asyncio.run(reads.catalogue())) == ["sales"]
        with pytest.raises(UnknownNameError, match="unknown feature view 'customers'"):
            asyncio.run(reads.views(("customers",)))
    finally:
        reads.close()
    with pytest.raises(UnknownNameError, match="cutsomers"):
        FeatureReads(FeatureServingConfig(path=store.path, views=("cutsomers",)))


def test_a_store_that_is_not_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    settings = CONFIG.model_copy(update={"features": FeatureServingConfig(path=tmp_path)})
    with pytest.raises(OnlineStoreError, match="materialise a feature view there first"):
        Server(settings, [FakeClassifier()]).start()


class OneView:
    """Access control that lets one key read one view, and counts."""

    key_id = "k"

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []

    def authenticate(self, headers: Any) -> OneView:
        return self

    def allows(self, model: str) -> bool:
        return model == resource("customers")

    def admit(self, principal: Any, model: str, rows: int) -> None:
        self.taken.append((model, rows))

    def charge(self, *_: Any) -> None:
        pass


class Service:
    """The gRPC service on an event loop of its own."""

    def __init__(self, config: FeatureServingConfig, access: Any = None) -> None:
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._config, self._access = config, access
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    async def _serve(self) -> None:
        lifecycle = Lifecycle()
        lifecycle.phase = Phase.SERVING
        reads = FeatureReads(self._config)
        gateway = Gateway(ModelRepository(CONFIG), lifecycle, access=self._access)
        front = AioFront([FeatureService(gateway, reads).service()], CONFIG.max_body_bytes)
        front.listen("127.0.0.1", 0)
        self.port = front.port
        await front.start()
        self._started.set()
        await self._stop.wait()
        await front.stop(0)
        reads.close()

    def __enter__(self) -> Any:
        self._thread.start()
        assert self._started.wait(30)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        return pb_grpc.FeatureServiceStub(self._channel)

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@pytest.fixture(scope="module")
def stub(config: FeatureServingConfig) -> Iterator[Any]:
    with Service(config) as found:
        yield found


def ints(name: str, *values: int | None) -> pb.Column:
    return pb.Column(name=name, values=[pb.Value() if v is None else pb.Value(int_value=v) for v in values])


def test_grpc_gives_what_the_store_gives(stub: Any, store: FeatureStore) -> None:
    request = pb.GetFeaturesRequest(features=["customers"], entities=[ints("customer", 1, 2, 99, None)])
    columns = {column.name: column.values for column in stub.GetFeatures(request).columns}
    expected = store.online("customers", [{"customer": key} for key in (1, 2, 99, None)])
    assert list(columns) == list(expected[0])
    first = {name: values[0] for name, values in columns.items()}
    assert first["city"].string_value == "Paris"
    assert first["count"].uint_value == 2**64 - 1
    assert first["vip"].bool_value is True
    assert first["since"].string_value == "2020-02-29"
    assert first["seen"].timestamp_value.ToDatetime(dt.UTC) == NOW - 2 * HOUR
    assert first["balance"].string_value == "1.50"
    assert list(first["vector"].numbers_value.values) == [0.25, 0.5]
    assert [each.string_value for each in first["tags"].list_value.values] == ["a", "b"]
    assert first["photo"].bytes_value == b"\x00\xff"
    assert first["stay"].duration_value.ToTimedelta() == dt.timedelta(minutes=90)
    assert first["home"].struct_value.fields["y"].string_value == "a"
    assert math.isnan(columns["score"][1].double_value)
    assert columns["tags"][1].WhichOneof("kind") == "list_value"
    assert all(columns[name][2].WhichOneof("kind") is None for name in columns if name != "customer")
    request = pb.GetFeaturesRequest(features=["customers"], entities=[ints("customer", 1, 99, None)], arrow=True)
    table = pa.ipc.open_stream(stub.GetFeatures(request).arrow).read_all()
    assert table.equals(store.online_batch("customers", [{"customer": key} for key in (1, 99, None)]))


def test_grpc_times_views_and_keys_of_other_types(stub: Any) -> None:
    request = pb.GetFeaturesRequest(features=["customers:city"], entities=[ints("customer", 3)])
    assert stub.GetFeatures(request).columns[1].values[0].WhichOneof("kind") is None
    request.at.FromDatetime(NOW - 20 * HOUR)
    assert stub.GetFeatures(request).columns[1].values[0].string_value == "Rome"
    sales = pb.GetFeaturesRequest(
        features=["sales:share"],
        entities=[
            pb.Column(name="shop", values=[pb.Value(string_value="a")]),
            pb.Column(name="day", values=[pb.Value(string_value="2026-01-01")]),
            pb.Column(name="code", values=[pb.Value(bytes_value=b"\x01")]),
            pb.Column(name="limit", values=[pb.Value(double_value=40)]),
        ],
        full_feature_names=True,
    )
    last = stub.GetFeatures(sales).columns[-1]
    assert (last.name, last.values[0].double_value) == ("sales__share", 0.25)
    views = {view.name: view for view in stub.ListFeatureViews(pb.ListFeatureViewsRequest()).views}
    assert views["customers"].ttl.ToTimedelta() == dt.timedelta(hours=24)
    assert views["customers"].entities[0] == pb.Field(name="customer", type="int64")


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (pb.GetFeaturesRequest(), grpc.StatusCode.INVALID_ARGUMENT, "expected 1 to 100, received 0"),
        (pb.GetFeaturesRequest(entities=[ints("customer", 1)]), grpc.StatusCode.INVALID_ARGUMENT, "at least one"),
        (
            pb.GetFeaturesRequest(features=["nope"], entities=[ints("customer", 1)]),
            grpc.StatusCode.NOT_FOUND,
            "unknown feature view 'nope'",
        ),
        (
            pb.GetFeaturesRequest(features=["customers"], entities=[ints("customer", 1), ints("customer", 1)]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "given twice",
        ),
        (
            pb.GetFeaturesRequest(features=["customers"], entities=[ints("customer", 1), ints("x", 1, 2)]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "one length",
        ),
        (
            pb.GetFeaturesRequest(features=["visits"], entities=[ints("customer", 1)]),
            grpc.StatusCode.UNAVAILABLE,
            "not materialised",
        ),
        (
            pb.GetFeaturesRequest(
                features=["customers"], entities=[ints("customer", 1)], at={"seconds": 2**60, "nanos": 0}
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "years 1 to 9999",
        ),
        (
            pb.GetFeaturesRequest(
                features=["customers"], entities=[pb.Column(name="customer", values=[pb.Value(struct_value={})])]
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "expected keys or numbers",
        ),
    ],
)
def test_grpc_refusals(stub: Any, request_: pb.GetFeaturesRequest, code: grpc.StatusCode, message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetFeatures(request_)
    assert caught.value.code() is code
    assert message in caught.value.details()


def test_keys_of_the_gateway_concern_views(config: FeatureServingConfig) -> None:
    access = OneView()
    with Service(config, access) as stub:
        stub.GetFeatures(pb.GetFeaturesRequest(features=["customers:city"], entities=[ints("customer", 1, 2)]))
        assert access.taken == [("features/customers", 2)]
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetFeatures(pb.GetFeaturesRequest(features=["customers", "sales"], entities=[ints("customer", 1)]))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "features/sales" in caught.value.details()
        assert access.taken == [("features/customers", 2)]


def test_what_is_materialised_later_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek.data.features.online import access
    from deepseek.serving.features import reads as reads_module

    monkeypatch.setattr(access, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(reads_module, "REFRESH_SECONDS", 0.0)
    store = feature_store(tmp_path)
    settings = CONFIG.model_copy(update={"features": FeatureServingConfig(path=store.path)})
    with Server(settings, [FakeClassifier()]) as server:
        url = f"{server.http_url}/v1/features/visits"
        assert httpx.get(url, params={"entity": "1"}).status_code == 503
        store.materialize("visits")
        assert httpx.get(url, params={"entity": "1"}).json()["rows"] == [{"customer": 1, "visits": 3}]
        assert httpx.get(url).json()["features"] == {"visits": "int64"}
        store.register(store.view("visits").model_copy(update={"version": 2, "features": ("visits", "city")}))
        store.materialize("visits")
        for _ in range(100):  # the first read after it is answered as before, and has the definitions read again
            rows = httpx.get(url, params={"entity": "1"}).json()["rows"]
            if "city" in rows[0]:
                break
        assert rows == [{"customer": 1, "visits": 3, "city": "Paris"}]

"""The feature store: definitions, names of columns, kinds of rows and features, engines."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from deepseek.data.features import FeatureStore, FeatureView, OnDemand, on_demand
from deepseek.data.features import fragments as fragments_module
from deepseek.data.features import gathering as gathering_module
from deepseek.data.features import history as history_module
from deepseek.data.table import Table
from deepseek.errors import ConfigError, DataError, TableError, TransformationError, UnknownNameError

HERE = "tests.data.features.transformations_for_tests"
DAY = dt.timedelta(days=1)
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Customers, shops, and purchases (of a customer in a shop), each with a view."""
    Table.create(
        tmp_path / "customers.lance",
        [
            {"customer": 1, "at": START, "known": START, "score": 0.5, "city": "Paris"},
            {"customer": 1, "at": START + 2 * DAY, "known": START + 5 * DAY, "score": 0.75, "city": "Rome"},
            {"customer": 2, "at": START + DAY, "known": START + DAY, "score": None, "city": None},
        ],
    )
    Table.create(
        tmp_path / "shops.lance",
        [{"shop": "a", "at": START, "score": 1.0}, {"shop": "b", "at": START + 3 * DAY, "score": 2.0}],
    )
    Table.create(
        tmp_path / "purchases.lance",
        [{"customer": 1, "shop": "b", "at": START + DAY, "amount": 30.0, "noise": 1}],
    )
    store = FeatureStore(tmp_path / "features")
    store.register(
        FeatureView(
            name="customers",
            source=tmp_path / "customers.lance",
            entities=["customer"],
            event_time="at",
            created_time="known",
        )
    )
    store.register(
        FeatureView(name="shops", source=tmp_path / "shops.lance", entities=["shop"], event_time="at", ttl=2 * DAY)
    )
    store.register(
        FeatureView(
            name="purchases",
            source=tmp_path / "purchases.lance",
            entities=["customer", "shop"],
            event_time="at",
            features=["amount"],
            transformations=[
                OnDemand(
                    function=f"{HERE}:ratio",
                    inputs=["amount"],
                    request={"limit": "float64"},
                    outputs={"share": "float64"},
                )
            ],
        )
    )
    return store


ROWS = [
    {"customer": 1, "shop": "b", "event_time": START + 5 * DAY, "limit": 60, "label": "x"},
    {"customer": 1, "shop": "a", "event_time": START + 2 * DAY, "limit": 1, "label": "y"},
    {"customer": 2, "shop": "a", "event_time": START + 3 * DAY, "limit": None, "label": "z"},
    {"customer": None, "shop": None, "event_time": START + 3 * DAY, "limit": 2, "label": "null keys"},
    {"customer": 1, "shop": "b", "event_time": None, "limit": 2, "label": "null time"},
    {"customer": 1, "shop": "b", "event_time": START + 5 * DAY, "limit": 60, "label": "x"},
]
EXPECTED = {
    "customers__score": [0.75, 0.5, None, None, None, 0.75],
    "city": ["Rome", "Paris", None, None, None, "Rome"],
    "shops__score": [2.0, 1.0, None, None, None, 2.0],
    "amount": [30.0, None, None, None, None, 30.0],
    "share": [0.5, None, None, None, None, 0.5],
}


def features_of(result: pa.Table) -> dict[str, list]:
    return {name: result[name].to_pylist() for name in EXPECTED}


def as_pandas(rows):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(rows)  # the customer column becomes float64, with NaN for the null


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: rows,
        iter,
        pa.Table.from_pylist,
        lambda rows: pa.Table.from_pylist(rows).to_batches()[0],
        lambda rows: pa.Table.from_pylist(rows).to_reader(2),
        lambda rows: iter(pa.Table.from_pylist(rows).to_batches(2)),
        as_pandas,
    ],
    ids=["dicts", "iterator", "table", "batch", "reader", "batches", "pandas"],
)
def test_several_views_and_every_kind_of_rows(store, form):
    result = store.history(form(ROWS), ["customers", "shops", "purchases"])
    assert result.column_names == ["customer", "shop", "event_time", "limit", "label", *EXPECTED]
    assert result["label"].to_pylist() == [row["label"] for row in ROWS]
    assert features_of(result) == EXPECTED


def test_entity_rows_may_be_a_table(store, tmp_path):
    rows = Table.create(tmp_path / "rows.lance", ROWS)
    assert features_of(store.history(rows, ["customers", "shops", "purchases"])) == EXPECTED


@pytest.mark.parametrize("chunk_rows", [1, 2, 4, 100])
def test_chunks_change_nothing(store, chunk_rows, monkeypatch):
    whole = store.history(ROWS, ["customers", "shops", "purchases"])
    monkeypatch.setattr(history_module, "_BATCH_BYTES", 40)
    monkeypatch.setattr(gathering_module, "_HELD_BYTES", 0 if chunk_rows == 2 else 1 << 20)
    reader = store.history_batches(iter(ROWS), ["customers", "shops", "purchases"], chunk_rows=chunk_rows)
    assert reader.schema == whole.schema
    assert reader.read_all().equals(whole)


def test_a_ray_cluster_gives_the_same(store, ray_cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(fragments_module, "PIECE_ROWS", 1)
    for number in range(5):
        Table.open(tmp_path / "shops.lance").append([{"shop": "a", "at": START + number * DAY, "score": 10.0 + number}])
    here = store.history(ROWS, ["customers", "shops", "purchases"])
    there = store.history(ROWS, ["customers", "shops", "purchases"], engine="ray")
    assert there.equals(here)
    assert here["shops__score"].to_pylist() == [2.0, 12.0, 13.0, None, None, 2.0]


def test_names_of_columns(store):
    names = store.history(ROWS, "customers:score").column_names
    assert names[-1] == "score"
    names = store.history(
        ROWS, ["purchases:share", "shops:score", "customers:city"], full_feature_names=True
    ).column_names
    assert names[-3:] == ["purchases__share", "shops__score", "customers__city"]
    rows = [row | {"city": "given"} for row in ROWS]
    result = store.history(rows, ["customers", "customers:city"])
    assert result.column_names[-3:] == ["city", "score", "customers__city"]
    assert set(result["city"].to_pylist()) == {"given"}
    with pytest.raises(ConfigError, match="'customers__city'"):
        store.history([row | {"city": 1, "customers__city": 2} for row in ROWS], "customers")


def test_the_result_says_what_it_was_made_from(store, tmp_path):
    table = Table.open(tmp_path / "shops.lance")
    table.tag("frozen")
    table.append([{"shop": "a", "at": START + 2 * DAY, "score": 9.0}])
    newest = store.history(ROWS, ["shops"])
    pinned = store.history(ROWS, ["shops"], at_version={"shops": "frozen"})
    assert newest["score"][1].as_py() == 9.0
    assert pinned["score"][1].as_py() == 1.0
    origin = json.loads(pinned.schema.metadata[b"deepseek.features"])
    assert origin["time"] == "event_time"
    assert origin["views"] == [
        {
            "view": "shops",
            "version": 1,
            "table": str(tmp_path / "shops.lance"),
            "table_version": 1,
            "features": {"score": "score"},
        }
    ]
    assert store.history(ROWS, ["shops"], at_version={"shops": 1}).equals(pinned)
    with pytest.raises(UnknownNameError, match="'shopz'"):
        store.history(ROWS, ["shops"], at_version={"shopz": 1})


def test_versions_stand_side_by_side(store):
    second = store.view("shops").model_copy(update={"version": 2, "ttl": None})
    store.register(second)
    assert [view.version for view in store.views()] == [1, 1, 2]
    assert store.versions("shops") == [1, 2]
    result = store.history(ROWS[2:3], ["shops@1:score", "shops@2"])
    assert result.column_names[-2:] == ["shops@1__score", "shops@2__score"]
    assert result.slice(0, 1).select(result.column_names[-2:]).to_pylist() == [
        {"shops@1__score": None, "shops@2__score": 1.0}
    ]
    store.delete("shops", 2)
    assert store.view("shops").version == 1
    store.delete("shops")
    with pytest.raises(UnknownNameError, match="'shop'"):
        store.view("shop")


def test_a_registered_version_does_not_change(store):
    view = store.view("shops")
    assert store.register(view) == view
    with pytest.raises(ConfigError, match=r"(?s)ttl: 'P2D' -> 'P1D'.*version=2"):
        store.register(view.model_copy(update={"ttl": DAY}))
    assert store.view("shops") == view


def test_definitions_are_readable_and_move_with_their_project(store, tmp_path):
    file = tmp_path / "features" / "views" / "shops" / "1.json"
    content = json.loads(file.read_text())
    assert content["source"] == "../shops.lance"
    assert content["ttl"] == "P2D"
    assert not list(tmp_path.rglob("*.tmp*"))
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    try:
        assert (
            features_of(FeatureStore(moved / "features").history(ROWS, ["customers", "shops", "purchases"])) == EXPECTED
        )
    finally:
        moved.rename(tmp_path)
    file.write_text(file.read_text().replace('"event_time"', '"event_tim"'))
    with pytest.raises(ConfigError, match=r"1\.json is not the definition of a feature view"):
        store.view("shops")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"entities": ["custmer"]}, UnknownNameError, "Did you mean 'customer'"),
        ({"features": ["scor"]}, UnknownNameError, "Did you mean 'score'"),
        ({"event_time": "score"}, ConfigError, "'score' is double; expected a timestamp"),
        ({"entities": ["score"]}, ConfigError, "the entity column 'score' is double"),
        ({"source": "nowhere.lance"}, TableError, "there is no table at nowhere.lance"),
        (
            {"transformations": [OnDemand(function="os:nothing", inputs=["score"], outputs={"o": "int64"})]},
            ConfigError,
            "no 'nothing'",
        ),
        (
            {"transformations": [OnDemand(function="no_module:f", inputs=["score"], outputs={"o": "int64"})]},
            ConfigError,
            "cannot be imported",
        ),
        (
            {"transformations": [OnDemand(function=f"{HERE}:ratio", inputs=["scor"], outputs={"o": "int64"})]},
            UnknownNameError,
            "'score'",
        ),
        (
            {"transformations": [OnDemand(function=f"{HERE}:ratio", inputs=["score"], outputs={"city": "int64"})]},
            ConfigError,
            "'city'",
        ),
    ],
)
def test_a_view_that_does_not_fit_its_table(store, change, error, message):
    definition = store.view("customers").model_dump() | {"name": "other"} | change
    with pytest.raises(error, match=message):
        store.register(FeatureView(**definition))
    assert "other" not in [view.name for view in store.views()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a__b"}, "name: expected"),
        ({"name": "a:b"}, "name: expected"),
        ({"entities": []}, "at least one entity"),
        ({"entities": "customer"}, "expected a list of column names"),
        ({"ttl": dt.timedelta(0)}, "a ttl above zero"),
        ({"event_time": "customer"}, "two roles"),
        ({"features": ["score", "score"]}, "two features"),
        ({"features": ["customer"]}, "cannot be a feature as well"),
        ({"version": 0}, "greater than or equal to 1"),
        ({"tll": DAY}, "Extra inputs"),
    ],
)
def test_a_definition_that_contradicts_itself(store, change, message):
    with pytest.raises(ValidationError, match=message):
        FeatureView(**store.view("customers").model_dump() | change)


@pytest.mark.parametrize(
    ("rows", "features", "error", "message"),
    [
        (ROWS, "customer", UnknownNameError, "Did you mean 'customers'"),
        (ROWS, "customers:scores", UnknownNameError, "Did you mean 'score'"),
        (ROWS, "customers@7", UnknownNameError, "customers@7"),
        (ROWS, "customers:", ConfigError, "expected 'view', 'view:feature'"),
        (ROWS, [], ConfigError, "expected at least one"),
        ([{"customer": 1, "evnt_time": START}], "customers", UnknownNameError, "Did you mean 'evnt_time'"),
        ([{"cust": 1, "event_time": START}], "customers", UnknownNameError, "'customer'"),
        ([{"customer": 1, "event_time": "2026-01-01"}], "customers", ConfigError, "is string; expected timestamps"),
        ([{"customer": "1", "event_time": START}], "customers", DataError, "expected int64 .* received string"),
        ([{"customer": 1.5, "event_time": START}], "customers", DataError, "with fractions"),
        ([{"customer": 1, "shop": "a", "event_time": START}], "purchases", UnknownNameError, "'limit'"),
        ("customers.csv", "customers", TypeError, "expected an Arrow table"),
    ],
)
def test_wrong_questions(store, rows, features, error, message):
    with pytest.raises(error, match=message):
        store.history(rows, features)


def test_no_rows(store):
    schema = pa.schema({"customer": pa.int64(), "event_time": pa.timestamp("us")})
    result = store.history(schema.empty_table(), "customers")
    assert result.num_rows == 0
    assert result.column_names == ["customer", "event_time", "score", "city"]
    Table.open(store.view("customers").source).delete("true")
    assert store.history(ROWS[:1], "customers")["score"].to_pylist() == [None]


def test_an_error_of_the_rows_iterator_comes_through(store):
    def rows():
        yield from ROWS
        raise RuntimeError("the source went away")

    with pytest.raises(RuntimeError, match="the source went away"):
        store.history(rows(), "customers")


@pytest.mark.parametrize("held", [0, 1 << 28])
@pytest.mark.parametrize("scan", [True, False])
def test_features_of_any_type(tmp_path, monkeypatch, held, scan):
    monkeypatch.setattr(gathering_module, "_HELD_BYTES", held)
    monkeypatch.setattr(gathering_module, "_TAKE", 1e6 if scan else 0)
    monkeypatch.setattr(history_module, "_BATCH_BYTES", 20_000)
    count = 500
    random = np.random.default_rng(0)
    rows = pa.table(
        {
            "id": pa.array(np.arange(count) % 50),
            "at": pa.array(np.arange(count), pa.timestamp("s")),
            "flag": pa.array([None if i % 7 == 0 else i % 2 == 0 for i in range(count)]),
            "text": pa.array([None if i % 5 == 0 else "字" * (i % 40) for i in range(count)]),
            "blob": pa.array([random.bytes(i % 300) for i in range(count)], pa.large_binary()),
            "vector": pa.array(
                [None if i % 3 == 0 else [i, i + 0.5, -i] for i in range(count)], pa.list_(pa.float32(), 3)
            ),
            "list": pa.array([None if i % 4 == 0 else [str(i)] * (i % 4) for i in range(count)]),
            "nested": pa.array([{"a": i, "b": [{"c": str(i)}]} for i in range(count)]),
            "when": pa.array(np.arange(count), pa.timestamp("ns", tz="Asia/Shanghai")),
            "price": pa.array([None if i % 2 else i for i in range(count)], pa.decimal128(12, 2)),
        }
    )
    table = Table.create(tmp_path / "t.lance", rows)
    view = FeatureView(name="v", source=table, entities=["id"], event_time="at")
    asked = pa.table(
        {"id": random.integers(0, 60, 400), "at": pa.array(random.integers(-5, count + 5, 400), pa.timestamp("s"))}
    )
    result = FeatureStore(tmp_path / "store").history(asked, [view], time="at", full_feature_names=True)
    last = {}
    for row, (key, at) in enumerate(
        zip(asked["id"].to_pylist(), asked["at"].cast(pa.int64()).to_pylist(), strict=True)
    ):
        at = min(at, count - 1)
        position = at - (at - key) % 50
        last[row] = position if key < 50 and position >= 0 else None
    expected = rows.take(pa.array(list(last.values()), pa.int64()))
    for name in rows.column_names[2:]:
        assert result[f"v__{name}"].type == rows[name].type
        assert result[f"v__{name}"].to_pylist() == expected[name].to_pylist(), name


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 100_003])
def test_a_transformation_gives_the_same_bits_for_any_number_of_rows(size):
    from tests.data.features.transformations_for_tests import curves

    random = np.random.default_rng(size)
    amount = pa.array(random.standard_normal(size) * 10.0 ** random.integers(-5, 6, size))
    together = curves.apply({"amount": amount}, check=True)
    for row in {0, size // 3, size // 2, size - 1}:
        alone = curves.apply({"amount": amount.slice(row, 1)})
        for name in curves.outputs:
            assert alone[name].to_numpy().tobytes() == together[name].slice(row, 1).to_numpy().tobytes()


def test_a_transformation_that_looks_at_other_rows_is_refused(store):
    step = OnDemand(function=f"{HERE}:centred", inputs=["score"], outputs={"o": "float64"})
    with pytest.raises(TransformationError, match="failed: KeyError"):
        step.apply({"score": pa.array([1.0])})
    step = OnDemand(function=f"{HERE}:centred", inputs=["amount"], outputs={"o": "float64"})
    with pytest.raises(DataError, match=r"among 3 rows and 0.0 alone"):
        step.apply({"amount": pa.array([1.0, 2.0, 6.0])}, check=True)


def test_outputs_of_a_transformation():
    outputs = {"text": "string", "letters": pa.list_(pa.string()), "vector": "float32[2]"}
    step = OnDemand(function=f"{HERE}:described", inputs=["amount"], outputs=outputs)
    result = step.apply({"amount": pa.array([1.25, None])}, check=True)
    assert result["vector"].type == pa.list_(pa.float32(), 2)
    assert {name: array.to_pylist() for name, array in result.items()} == {
        "text": ["1.2", None],
        "letters": [["1", ".", "2"], None],
        "vector": [[3.0, 1.0], None],
    }
    assert {
        name: len(array) for name, array in step.apply({"amount": pa.array([], pa.float64())}).items()
    } == dict.fromkeys(outputs, 0)
    wrong = OnDemand(function=f"{HERE}:described", inputs=["amount"], outputs={"text": "string"})
    with pytest.raises(TransformationError, match="expected the outputs"):
        wrong.apply({"amount": pa.array([1.0])})
    wrong = OnDemand(function=f"{HERE}:ratio", inputs=["amount", "limit"], outputs={"share": "timestamp[us]"})
    with pytest.raises(DataError, match="expected timestamp"):
        wrong.apply({"amount": pa.array([1.0]), "limit": pa.array([1.0])})


def test_functions_that_no_other_process_can_import(store):
    @on_demand(inputs=["score"], outputs={"twice": "float64"})
    def twice(columns):
        return columns["score"].to_numpy(zero_copy_only=False) * 2

    view = FeatureView(**store.view("customers").model_dump() | {"name": "local"}).model_copy(
        update={"transformations": (twice,)}
    )
    with pytest.raises(ConfigError, match="defined in another function"):
        store.register(view)
    result = store.history(ROWS[:2], [view])  # but it serves an experiment
    assert result["twice"].to_pylist() == [1.5, 1.0]


def test_a_script_s_own_functions_are_refused_at_registration(store, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
from deepseek.data.features import FeatureStore, on_demand
@on_demand(inputs=["score"], outputs={{"o": "float64"}})
def double(columns):
    return columns["score"]
store = FeatureStore({str(tmp_path / "features")!r})
try:
    store.register(store.view("customers").model_copy(update={{"name": "mine", "transformations": (double,)}}))
except ValueError as error:
    print(error)
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=Path.cwd())
    assert "'double' is defined in the script that is running" in done.stdout, done.stderr

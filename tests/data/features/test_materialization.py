"""Materialised features online are the features offline, whatever happened to the table in between."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import subprocess
import sys
import time

import lance
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from deepseek.data.features import FeatureStore, FeatureView, on_demand
from deepseek.data.features import materialization as module
from deepseek.data.features.latest import PIECE_ROWS
from deepseek.data.features.online import Space, StaleWriteError, open_online_store
from deepseek.data.features.online.record import EPOCH_BYTES
from deepseek.data.table import Table
from deepseek.errors import ConfigError, DataError, OnlineStoreError, UnknownNameError

START = dt.datetime(2026, 1, 1)
HOUR = dt.timedelta(hours=1)


@on_demand(inputs=["amount"], request={"rate": "float64"}, outputs={"in_local": "float64"})
def convert(columns):
    import pyarrow.compute as pc

    return {"in_local": pc.multiply(columns["amount"], columns["rate"])}


def rows(entries, unit="us"):
    """Rows of (user, region, event hour, created hour, amount)."""
    users, regions, events, createds, amounts = zip(*entries, strict=True) if entries else ((),) * 5

    def hours(values):
        return pa.array([None if v is None else START + v * HOUR for v in values], pa.timestamp("us")).cast(
            pa.timestamp(unit)
        )

    return pa.table(
        {
            "user": pa.array(users, pa.int64()),
            "region": pa.array(regions, pa.string()),
            "event_time": hours(events),
            "created": pa.array(
                [None if v is None else START + v * HOUR for v in createds], pa.timestamp("ms", "Asia/Tokyo")
            ),
            "amount": pa.array(amounts, pa.float64()),
            "tags": pa.array([None if a is None else [str(a), None] for a in amounts], pa.list_(pa.string())),
            "vector": pa.array([None if a is None else [a, 0.5] for a in amounts], pa.list_(pa.float32(), 2)),
        }
    )


def make(folder, entries, **options):
    """A feature store with the view ``spending`` of a table with the rows."""
    table = Table.create(folder / "spending.lance", rows(entries), schema=rows([]).schema)
    store = FeatureStore(folder / "features", online=options.pop("online", None))
    view = FeatureView(
        name="spending",
        source=table.path,
        entities=["user", "region"],
        event_time="event_time",
        created_time="created",
        transformations=[convert],
        **options,
    )
    store.register(view)
    return table, store


KEYS = [(user, region) for user in (0, 1, 2, None) for region in ("a", "b")]


def both(store, hour, feature="spending"):
    """What history and online say at an hour: as tables, and online as rows."""
    at = START + hour * HOUR
    keys = pa.table(
        {
            "user": pa.array([user for user, _ in KEYS], pa.int64()),
            "region": [region for _, region in KEYS],
            "rate": [1.0 + n for n in range(len(KEYS))],
        }
    )
    asked = keys.append_column("at", pa.array([at] * len(KEYS), pa.timestamp("us")))
    offline = store.history(asked, feature, time="at").drop_columns("at").replace_schema_metadata(None)
    return offline, store.online_batch(feature, keys, at=at), store.online(feature, keys.to_pylist(), at=at)


def assert_equal(store, hour):
    offline, batch, online = both(store, hour)
    assert batch.schema.equals(offline.schema)
    assert repr(batch.to_pylist()) == repr(offline.to_pylist())
    assert repr(online) == repr(offline.to_pylist())
    return online


def test_a_table_made_anew_with_the_same_version_number_is_noticed(tmp_path):
    import shutil

    table, store = make(tmp_path, [(0, "a", 1, 1, 1.0)])
    store.materialize("spending", until=START + HOUR)
    assert assert_equal(store, 1)[0]["amount"] == 1.0
    shutil.rmtree(table.path)
    Table.create(table.path, rows([]), schema=rows([]).schema)
    report = store.materialize("spending", until=START + HOUR)
    assert report.from_version == report.to_version
    assert report.rebuilt
    assert assert_equal(store, 1)[0]["amount"] is None


def test_rows_that_a_restored_version_brings_back_are_read_again(tmp_path):
    table, store = make(tmp_path, [(0, "a", 0, 0, 1.0), (0, "b", 0, 0, 2.0), (1, "b", 0, 0, 3.0)])
    table.delete("user = 1")
    table.delete("region = 'b'")
    store.materialize("spending", until=START)
    assert [row["amount"] for row in assert_equal(store, 0)[:2]] == [1.0, None]
    table.restore(2)
    store.materialize("spending", until=START)
    assert [row["amount"] for row in assert_equal(store, 0)[:2]] == [1.0, 2.0]


HOURS = st.integers(0, 8)
ENTRY = st.tuples(
    st.sampled_from([0, 1, 2, None]),
    st.sampled_from(["a", "b"]),
    st.none() | HOURS,
    st.none() | HOURS,
    st.none() | st.sampled_from([1.0, 2.5, float("nan"), -0.0]),
)


class Life(RuleBasedStateMachine):
    """Any sequence of writes to the table, materialising now and then; both sides must agree each time."""

    folder: object
    address: object = None

    def __init__(self):
        super().__init__()
        Life.count += 1
        where = Life.folder / str(Life.count)
        self.online = open_online_store(
            self.address or where / "online", **({"prefix": f"p{Life.count}"} if self.address else {})
        )
        self.table, self.store = make(where, [(0, "a", 1, 1, 1.0)], ttl=3 * HOUR, online=self.online)
        self.hour = 0
        self.fresh = False

    def teardown(self):
        self.online.close()

    @rule(entries=st.lists(ENTRY, min_size=1, max_size=6))
    def append(self, entries):
        self.table.append(rows(entries))
        self.fresh = False

    @rule(user=st.sampled_from([0, 1]), hour=HOURS)
    def delete(self, user, hour):
        self.table.delete(f"user = {user} AND event_time >= timestamp '{START + hour * HOUR}'")
        self.fresh = False

    @rule(hour=HOURS)
    def delete_old(self, hour):
        self.table.delete(f"event_time < timestamp '{START + hour * HOUR}'")
        self.fresh = False

    @rule(user=st.sampled_from([0, 1, 2]), amount=st.sampled_from(["7.0", "8.0"]))
    def update(self, user, amount):
        self.table._dataset.update({"amount": amount}, where=f"user = {user}")
        self._reopen()

    @rule(entries=st.lists(ENTRY.filter(lambda e: e[0] is not None), min_size=1, max_size=3, unique_by=lambda e: e[:2]))
    def upsert(self, entries):
        (
            self.table._dataset.merge_insert(["user", "region"])
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute(rows(entries).cast(self.table.schema.remove_metadata()))
        )
        self._reopen()

    @rule(size=st.sampled_from([3, 8, 1000]))
    def compact(self, size):
        self.table._dataset.optimize.compact_files(target_rows_per_fragment=size)
        self._reopen()

    @rule(entries=st.lists(ENTRY, min_size=0, max_size=4))
    def overwrite(self, entries):
        self.table.replace(rows(entries), schema=rows([]).schema)
        self.fresh = False

    @rule(entries=st.lists(ENTRY, min_size=0, max_size=4))
    def start_anew(self, entries):
        import shutil

        shutil.rmtree(self.table.path)
        self.table = Table.create(self.table.path, rows(entries), schema=rows([]).schema)
        self.fresh = False

    @rule()
    def forget_old_versions(self):
        self.table._dataset.cleanup_old_versions(older_than=dt.timedelta(0), delete_unverified=True)

    @rule(version=st.integers(1, 20))
    def restore(self, version):
        known = [entry["version"] for entry in self.table._dataset.versions()]
        dataset = lance.dataset(self.table.path, version=known[version % len(known)])
        dataset.restore()
        self._reopen()

    @rule(hour=st.sampled_from([0, 0, 0, 1, 3, -2]))
    def materialize(self, hour):
        self.hour = max(0, min(9, self.hour + hour))
        before = None if self.online.state(Space("spending", 1)) is None else self.table.version
        report = self.store.materialize("spending", until=START + self.hour * HOUR)
        assert report.to_version == self.table.version
        assert before is None or report.from_version is not None
        self.fresh = True

    @precondition(lambda self: self.fresh)
    @invariant()
    def agree(self):
        assert_equal(self.store, self.hour)
        offline, batch, _ = both(self.store, self.hour, "spending:amount")
        assert repr(batch.to_pylist()) == repr(offline.to_pylist())

    def _reopen(self):
        self.table = Table.open(self.table.path)
        self.fresh = False


def live(folder, address, examples):
    Life.folder, Life.address, Life.count = folder, address, 0
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Life,
        settings=settings(max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=checks),
    )


def test_online_agrees_with_history_whatever_happens_to_the_table(tmp_path):
    live(tmp_path, None, 25)


def test_online_agrees_with_history_in_redis(tmp_path, redis_server):
    live(tmp_path, redis_server, 5)


@pytest.mark.slow
def test_online_agrees_with_history_for_long(tmp_path):
    live(tmp_path, None, 400)


def test_repairs_that_are_too_many_become_a_rebuild(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_REPAIRED", 3)
    live(tmp_path, None, 8)


def test_only_what_changed_is_read(tmp_path):
    table, store = make(tmp_path, [(user, "a", 1, 1, 1.0) for user in range(1000)])
    first = store.materialize("spending", until=START + 5 * HOUR)
    assert (first.from_version, first.to_version, first.rows_read, first.keys_written) == (None, 1, 1000, 1000)
    assert first.rebuilt is None
    again = store.materialize("spending", until=START + 6 * HOUR)
    assert (again.from_version, again.rows_read, again.keys_written, again.keys_removed) == (1, 0, 0, 0)
    table.append(rows([(5, "a", 2, 2, 9.0), (6, "a", 0, 0, 9.0), (2000, "a", -100, 4, 3.0)]))
    late = store.materialize("spending", until=START + 6 * HOUR)
    assert (late.rows_read, late.keys_written) == (3, 2)
    table._dataset.optimize.compact_files()
    table = Table.open(table.path)
    table.add_columns({"twice": "amount * 2"})
    assert (
        store.materialize("spending:amount".partition(":")[0], until=START + 6 * HOUR).rebuilt
        == "the view's columns changed"
    )


def test_compaction_and_columns_of_others_cost_nothing(tmp_path):
    table, store = make(tmp_path, [(user, "a", 1, 1, 1.0) for user in range(50)], features=["amount"])
    table.append(rows([(5, "a", 2, 2, 9.0)]))
    store.materialize("spending", until=START + 5 * HOUR)
    table._dataset.optimize.compact_files()
    table = Table.open(table.path)
    table.add_columns({"twice": "amount * 2"})
    table = Table.open(table.path)
    table.delete("user = 7 AND event_time > timestamp '2027-01-01'")
    report = store.materialize("spending", until=START + 6 * HOUR)
    assert (report.rows_read, report.keys_written, report.rebuilt) == (0, 0, None)


def test_deleting_rows_that_are_not_online_reads_nothing_again(tmp_path):
    table, store = make(tmp_path, [(user, "a", hour, hour, 1.0) for hour in (1, 2) for user in range(50)])
    store.materialize("spending", until=START + 5 * HOUR)
    table.delete(f"event_time < timestamp '{START + 2 * HOUR}'")
    report = store.materialize("spending", until=START + 5 * HOUR)
    assert (report.rows_read, report.keys_written, report.keys_removed) == (0, 0, 0)
    table.delete("user = 3")
    report = store.materialize("spending", until=START + 5 * HOUR)
    assert (report.keys_written, report.keys_removed, report.rebuilt) == (0, 1, None)
    assert_equal(store, 5)


def test_rows_of_the_future_follow_when_their_time_has_come(tmp_path):
    table, store = make(tmp_path, [(0, "a", 1, 1, 1.0), (0, "a", 2, 4, 2.0), (1, "a", 6, 6, 3.0)])
    for hour, expected in ((1, (1.0, None)), (3, (1.0, None)), (4, (2.0, None)), (8, (2.0, 3.0))):
        store.materialize("spending", until=START + hour * HOUR)
        found = assert_equal(store, hour)
        assert (found[0]["amount"], found[2]["amount"]) == expected
    table._dataset.optimize.compact_files()
    assert store.materialize("spending").rows_read == 0


def test_until_may_go_back(tmp_path):
    _, store = make(tmp_path, [(0, "a", 1, 1, 1.0), (0, "a", 2, 2, 2.0), (1, "a", 2, 2, 2.0)])
    store.materialize("spending", until=START + 5 * HOUR)
    report = store.materialize("spending", until=START + 1 * HOUR)
    assert report.rebuilt == "until went back from 2026-01-01 05:00:00+00:00"
    assert report.keys_removed == 1
    assert_equal(store, 1)


def test_many_pieces_and_many_fragments(tmp_path, monkeypatch):
    monkeypatch.setattr("deepseek.data.features.latest.PIECE_ROWS", 64)
    monkeypatch.setattr(module, "_WRITE_RECORDS", 50)
    draw = random.Random(3)
    table, store = make(
        tmp_path,
        [(draw.randrange(3), draw.choice("ab"), draw.randrange(8), draw.randrange(8), 1.0) for _ in range(500)],
    )
    for _ in range(3):
        table.append(
            rows([(draw.randrange(3), "a", draw.randrange(8), draw.randrange(8), draw.random()) for _ in range(200)])
        )
    report = store.materialize("spending", until=START + 5 * HOUR)
    assert report.rows_read == 1100
    assert_equal(store, 5)
    assert PIECE_ROWS == 1 << 16


KILLED = """
import datetime as dt, sys, time
from deepseek.data.features import FeatureStore
from deepseek.data.features import latest, materialization
latest.PIECE_ROWS = 256
materialization._WRITE_RECORDS = 300
store = FeatureStore(sys.argv[1])
print("ready", flush=True)
store.materialize("spending", until=dt.datetime(2026, 1, 1, 5))
"""


def content(folder):
    """Keys and records without their epochs, which tell when a rebuild began."""
    with open_online_store(folder / "features" / "online") as online:
        return {key: record[EPOCH_BYTES:] for key, record in online.records(Space("spending", 1))}


def build(folder):
    draw = random.Random(8)
    entries = [
        (draw.randrange(900), draw.choice("ab"), draw.randrange(8), draw.randrange(8), float(n)) for n in range(12_000)
    ]
    return make(folder, entries[:8000]), entries[8000:]


@pytest.mark.parametrize("kind", ["first", "append", "repair", "rebuild"])
def test_killed_at_any_moment_and_run_again_gives_the_same_store(tmp_path, kind):
    """The same history of the table, once without and once with interruptions by SIGKILL."""
    results = []
    kills = 0
    for name in ("whole", "killed"):
        folder = tmp_path / name
        (table, store), more = build(folder)
        if kind != "first":
            store.materialize("spending", until=START + (6 if kind == "rebuild" else 4) * HOUR)
        if kind in ("append", "repair"):
            table.append(rows(more))
        if kind == "repair":
            table.delete("user < 300 AND event_time >= timestamp '2026-01-01 03:00:00'")
        store.close()
        draw = random.Random(1)
        for _ in range(12 if name == "killed" else 0):
            command = [sys.executable, "-c", KILLED, str(folder / "features")]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path.parent)
            process.stdout.readline()
            time.sleep(draw.uniform(0.0, 0.25))
            finished = process.poll() is not None
            process.kill()
            process.wait()
            process.stdout.close()
            kills += not finished
            if finished or kills >= 5:
                break
        store.materialize("spending", until=START + 5 * HOUR)
        assert_equal(store, 5)
        store.close()
        results.append(content(folder))
    assert kills
    assert results[0] == results[1]


def test_a_second_materialiser_that_was_overtaken_stops_and_harms_nothing(tmp_path, monkeypatch):
    table, store = make(tmp_path, [(user, "a", 1, 1, 1.0) for user in range(3)])
    store.materialize("spending", until=START + 2 * HOUR)
    table.append(rows([(0, "a", 2, 2, 5.0)]))
    find_latest = module.find_latest

    def overtaken(piece, only=None):
        monkeypatch.setattr(module, "find_latest", find_latest)
        Table.open(table.path).delete("user = 0")
        store.materialize("spending", until=START + 3 * HOUR)
        return find_latest(piece, only)

    monkeypatch.setattr(module, "find_latest", overtaken)
    with pytest.raises(StaleWriteError, match="run the materialisation again"):
        store.materialize("spending", until=START + 2 * HOUR)
    assert store.online("spending:amount", [{"user": 0, "region": "a"}])[0]["amount"] is None
    store.materialize("spending", until=START + 3 * HOUR)
    assert_equal(store, 3)


def test_the_same_on_a_cluster(tmp_path, monkeypatch):
    from deepseek.data.engines import Engine

    class Elsewhere(Engine):
        """Runs pieces as a cluster does: function, item and result travel as bytes."""

        name = "elsewhere"
        workers = 2

        def _run(self, function, items, handle):
            import pickle

            from deepseek.data.engines.engine import call

            for item in items:
                yield pickle.loads(pickle.dumps(call(function, *pickle.loads(pickle.dumps((item, handle))))))

    _, store = make(tmp_path / "a", [(user % 3, "a", user % 5, 1, float(user)) for user in range(200)])
    _, other = make(tmp_path / "b", [(user % 3, "a", user % 5, 1, float(user)) for user in range(200)])
    store.materialize("spending", until=START + 5 * HOUR)
    other.materialize("spending", until=START + 5 * HOUR, engine=Elsewhere())
    store.close()
    other.close()
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_ttl_counts_from_the_time_asked_for(tmp_path):
    _, store = make(tmp_path, [(0, "a", 1, 1, 1.0)], ttl=2 * HOUR)
    store.materialize("spending", until=START + 3 * HOUR)
    key = {"user": 0, "region": "a", "rate": 2.0}
    edge = START + 3 * HOUR
    assert store.online("spending", [key], at=edge)[0]["in_local"] == 2.0
    assert store.online("spending", [key], at=edge + dt.timedelta(microseconds=1))[0]["amount"] is None
    assert store.online("spending", [key], at=edge.replace(tzinfo=dt.UTC))[0]["amount"] == 1.0
    assert store.online("spending:amount", [key])[0]["amount"] is None
    with pytest.raises(DataError, match=r"became visible at 2026-01-01 01:00:00\+00:00.*use history"):
        store.online("spending:amount", [key], at=START)


def test_several_views_and_versions_in_one_read(tmp_path):
    table, store = make(tmp_path, [(0, "a", 1, 1, 1.0)])
    store.register(
        FeatureView(
            name="spending",
            source=table.path,
            entities=["user"],
            event_time="event_time",
            features=["amount"],
            version=2,
        )
    )
    store.register(
        FeatureView(
            name="regions", source=table.path, entities=["region"], event_time="event_time", features=["user", "amount"]
        )
    )
    for view in ("spending@1", "spending@2", "regions"):
        store.materialize(view)
    asked = ["spending@1:amount", "spending@2:amount", "regions:user"]
    expected = [{"user": 0, "region": "a", "spending@1__amount": 1.0, "spending@2__amount": 1.0, "regions__user": 0}]
    assert store.online(asked, {"user": [0], "region": ["a"]}) == expected
    assert asyncio.run(store.online_async(asked, [{"user": 0, "region": "a"}])) == expected
    assert store.online_batch(asked, {"user": [0], "region": ["a"]}).to_pylist() == expected
    assert store.online(asked, []) == []


def test_a_new_type_of_a_column_is_read_right_by_an_open_reader(tmp_path):
    table, store = make(tmp_path, [(0, "a", 1, 1, 1.0)], features=["amount"])
    keys = [{"user": 0, "region": "a"}]
    store.materialize("spending")
    assert store.online("spending:amount", keys)[0]["amount"] == 1.0
    changed = rows([(0, "a", 1, 1, 1.0)])
    changed = changed.set_column(4, "amount", pa.array(["text"]))
    table.replace(changed)
    assert store.materialize("spending").rebuilt == "the view's columns changed"
    assert store.online("spending:amount", keys)[0]["amount"] == "text"


def test_blobs_go_online_as_their_bytes(tmp_path):
    pytest.importorskip("deepseek.data.table.blobs")
    data = rows([(0, "a", 1, 1, 1.0), (1, "a", 1, 1, 2.0), (1, "a", 2, 2, 2.0)])
    data = data.append_column("scan", pa.array([b"x" * 9000, b"y" * 9000, None], pa.large_binary()))
    table = Table.create(tmp_path / "spending.lance", data)
    store = FeatureStore(tmp_path / "features")
    store.register(FeatureView(name="scans", source=table.path, entities=["user"], event_time="event_time"))
    store.materialize("scans", until=START + HOUR)
    keys = [{"user": user} for user in (0, 1, 2)]
    found = store.online("scans:scan", keys, at=START + HOUR)
    assert [each["scan"] for each in found] == [b"x" * 9000, b"y" * 9000, None]
    asked = [key | {"event_time": START + HOUR} for key in keys]
    offline = store.history(asked, "scans").drop_columns("event_time").replace_schema_metadata(None)
    online = store.online_batch("scans", keys, at=START + HOUR)
    assert online.schema.equals(offline.schema)
    assert online.to_pylist() == offline.to_pylist()


def test_a_time_column_may_be_a_feature(tmp_path):
    table, store = make(tmp_path, [(0, "a", 1, 1, 1.0)], features=["event_time"])
    store.materialize("spending")
    assert_equal(store, 2)
    table.delete("user = 0")
    store.materialize("spending")
    assert_equal(store, 2)


def test_what_can_go_wrong_is_said(tmp_path):
    _, store = make(tmp_path, [(0, "a", 1, 1, 1.0)])
    key = {"user": 0, "region": "a"}
    with pytest.raises(OnlineStoreError, match=r"there is no online store at .*features/online; materialise"):
        store.online("spending", [key])
    assert not (tmp_path / "features" / "online").exists()
    store.materialize("spending")
    source = store.view("spending").source
    store.register(FeatureView(name="other", source=source, entities=["user"], event_time="event_time"))
    with pytest.raises(
        OnlineStoreError, match=r"other@1 is not in the online store .*\(there: spending@1\); materialise"
    ):
        store.online("other", [key])
    with pytest.raises(UnknownNameError, match="Did you mean 'amount'"):
        store.online("spending:amont", [key])
    with pytest.raises(UnknownNameError, match="Did you mean 'spending'"):
        store.materialize("spendin")
    with pytest.raises(ConfigError, match="expected 'view' or 'view@version'"):
        store.materialize("spending:amount")
    everything = key | {"rate": 1.0}
    assert store.online_reader("spending").rows([everything]) == store.online("spending", [everything])
    with pytest.raises(DataError, match="lack the column 'rate'"):
        store.online("spending", [key])
    with pytest.raises(DataError, match="lacks the entity column 'region'"):
        store.online("spending:amount", [{"user": 0}])
    with pytest.raises(DataError, match="have a column 'amount', which is a feature"):
        store.online("spending:amount", [key | {"amount": 1}])
    with pytest.raises(DataError, match="received lengths"):
        store.online("spending:amount", {"user": [0], "region": []})
    with pytest.raises(DataError, match="expected a list of dicts"):
        store.online("spending:amount", "user")

"""Rows and columns change as asked, each change is one version, and what cannot be done changes nothing."""

import datetime as dt
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import Table
from deepseek.data.engines import LocalEngine
from deepseek.data.table import staging
from deepseek.errors import ConfigError, ConflictError, TableError, UnknownNameError

ROWS = [{"k": n, "text": f"text {n}", "x": n / 2} for n in range(20)]
DOUBLE = pa.schema([("double", pa.int64())])


@pytest.fixture
def table(tmp_path):
    return Table.create(tmp_path / "t.lance", ROWS, metadata={"source": "me"})


def double(batch):
    return {"double": [2 * k for k in batch["k"].to_pylist()]}


KEYS = st.integers(0, 12)
ROW = st.fixed_dictionaries({"k": KEYS, "v": st.none() | st.integers(0, 99)})


@settings(max_examples=25, deadline=None)
@given(
    first=st.lists(ROW, unique_by=lambda row: row["k"]),
    steps=st.lists(st.lists(ROW, min_size=1, unique_by=lambda row: row["k"]), max_size=3),
)
def test_upserts_agree_with_a_dict(tmp_path_factory, first, steps):
    schema = pa.schema([("k", pa.int64()), ("v", pa.int64())])
    table = Table.create(tmp_path_factory.mktemp("upsert") / "t.lance", first, schema=schema)
    expected = {row["k"]: row["v"] for row in first}
    for step in steps:
        report = table.upsert(step, on="k")
        assert report.updated == sum(row["k"] in expected for row in step)
        assert report.inserted == len(step) - report.updated
        expected |= {row["k"]: row["v"] for row in step}
        assert report.version == table.version
    assert len(table) == len(expected)
    assert {row["k"]: row["v"] for row in table.rows()} == expected


def test_upsert_keeps_what_the_rows_lack_and_takes_several_keys(table):
    table.upsert(pa.table({"k": pa.array([3], pa.int64()), "text": ["changed"]}), on=["k"])
    assert list(table.rows(where="k = 3")) == [{"k": 3, "text": "changed", "x": 1.5}]
    report = table.upsert(
        [{"k": 3, "text": "changed", "x": 9.0}, {"k": 3, "text": "other", "x": 8.0}], on=["k", "text"]
    )
    assert (report.inserted, report.updated) == (1, 1)
    assert sorted(row["x"] for row in table.rows(where="k = 3")) == [8.0, 9.0]


@pytest.mark.parametrize("memory", [1, 1 << 20])
def test_a_key_that_comes_twice_is_an_error(table, monkeypatch, memory):
    monkeypatch.setattr(staging, "MEMORY_BYTES", memory)
    version = table.version
    with pytest.raises(TableError, match=r"the key k = 7 comes 2 times"):
        table.upsert(iter([{"k": 7, "x": 1.0}, {"k": 8, "x": 1.0}, {"k": 7, "x": 2.0}]), on="k")
    with pytest.raises(UnknownNameError, match="key column"):
        table.upsert([{"text": "no key"}], on="k")
    with pytest.raises(TableError, match="no column 'y'"):
        table.upsert([{"k": 1, "y": 1}], on="k")
    with pytest.raises(TableError, match="expected int64"):
        table.upsert([{"k": "one"}], on="k")
    assert Table.open(table.path).version == version
    report = table.upsert(iter([{"k": 7, "x": 1.0}, {"k": 80, "x": 1.0}]), on="k")
    assert (report.inserted, report.updated) == (1, 1)


def test_null_keys_never_match(table):
    report = table.upsert([{"k": None, "text": "a"}, {"k": None, "text": "b"}], on="k")
    assert (report.inserted, report.updated) == (2, 0)


def test_update_by_expression(table):
    assert table.update({"x": "x + k", "text": "'high'"}, where="k >= 18") == 2
    assert {row["k"]: (row["x"], row["text"]) for row in table.rows(where="k > 16")} == {
        17: (8.5, "text 17"),
        18: (27.0, "high"),
        19: (28.5, "high"),
    }
    version = table.version
    assert table.update({"x": "0"}, where="k > 100") == 0
    with pytest.raises(UnknownNameError, match="'y'"):
        table.update({"y": "1"})
    with pytest.raises(UnknownNameError, match="'z'"):
        table.update({"x": "z + 1"})
    assert Table.open(table.path).version == version


def test_append_can_bring_new_columns(table):
    table.append([{"k": 20, "label": "new", "score": 1.5}], evolve=True)
    assert table.columns == ["k", "text", "x", "label", "score"]
    assert table.take([0, 20]).to_pylist() == [
        {"k": 0, "text": "text 0", "x": 0.0, "label": None, "score": None},
        {"k": 20, "text": None, "x": None, "label": "new", "score": 1.5},
    ]
    assert table.metadata == {"source": "me"}
    with pytest.raises(TableError, match="expected int64, received str"):
        table.append([{"k": "wrong", "other": 1}], evolve=True)
    with pytest.raises(TableError, match="row 9000"):
        table.append(iter([{"k": 1, "other": 1}] * 9000 + [{"k": "wrong"}]), evolve=True)
    assert table.columns == Table.open(table.path).columns == ["k", "text", "x", "label", "score"]
    assert len(table) == 21


def test_drop_rename_and_cast(table):
    table.rename_columns({"text": "body"}).cast_columns({"k": pa.int32()}).drop_columns(["x"])
    assert table.schema.remove_metadata() == pa.schema([("k", pa.int32()), ("body", pa.string())])
    assert table.to_arrow(limit=1).to_pylist() == [{"k": 0, "body": "text 0"}]
    with pytest.raises(UnknownNameError, match="Did you mean 'body'"):
        table.drop_columns(["bodi"])
    with pytest.raises(TableError, match="'k' twice"):
        table.rename_columns({"body": "k"})
    with pytest.raises(TableError, match="no column left"):
        table.drop_columns(["k", "body"])
    with pytest.raises(TableError, match="cast_columns body to int64"):
        table.cast_columns({"body": pa.int64()})
    assert list(Table.open(table.path, 1).rows()) == ROWS


def _fragments(table, count=4):
    for part in range(1, count):
        table.append([{"k": 100 * part + n} for n in range(20)])
    return table


@pytest.mark.parametrize("engine", ["local", LocalEngine(1), LocalEngine(3)])
def test_a_function_computes_columns(table, engine):
    _fragments(table)
    table.delete("k = 5 OR k >= 300 AND k < 310")
    files = _data_files(table.path)
    table.add_columns(double, schema=DOUBLE, read=["k"], batch_size=7, engine=engine)
    assert all(row["double"] == 2 * row["k"] for row in table.rows())
    assert files <= _data_files(table.path)
    assert len(_data_files(table.path) - files) == 4
    assert not Path(table.path, "_staging").exists()
    with pytest.raises(TableError, match="'double' already"):
        table.add_columns(double, schema=DOUBLE, read=["k"])


def _data_files(path):
    return {file.name for file in Path(path, "data").iterdir()}


def test_a_function_may_return_arrays_batches_or_dicts_and_use_tables_itself(table):
    table.add_columns(lambda batch: pa.array(batch["k"].to_pylist()), schema=pa.schema([("a", pa.int64())]))
    table.add_columns(lambda batch: batch.select(["k"]).rename_columns(["b"]), schema=pa.schema([("b", pa.int64())]))
    table.add_columns(
        lambda batch: {"c": [str(k) for k in batch["k"].to_pylist()], "d": batch["x"]},
        schema=pa.schema([("c", pa.string()), ("d", pa.float32())]),
    )
    other = Table.open(table.path)
    table.add_columns(lambda batch: other.take(batch["k"].to_pylist())["x"], schema=pa.schema([("e", pa.float64())]))
    assert all(row["a"] == row["b"] == int(row["c"]) and row["d"] == row["e"] == row["x"] for row in table.rows())


class BrokenError(Exception):
    pass


def test_errors_of_a_function_come_out_as_they_are(table):
    def broken(batch):
        raise BrokenError("mine")

    version = table.version
    with pytest.raises(BrokenError, match="mine"):
        table.add_columns(broken, schema=DOUBLE)
    with pytest.raises(TableError, match="expected 20 values for 20 rows, received"):
        table.add_columns(lambda batch: [1], schema=DOUBLE)
    with pytest.raises(TableError, match="no column 'double'"):
        table.add_columns(lambda batch: {"other": [1]}, schema=DOUBLE)
    with pytest.raises(TableError, match="does not fit"):
        table.add_columns(lambda batch: ["text"] * batch.num_rows, schema=DOUBLE)
    with pytest.raises(ConfigError, match="schema"):
        table.add_columns(double)
    assert Table.open(table.path).version == version


COMPUTE = """
import sys, time
import pyarrow as pa
from deepseek.data import Table
from deepseek.data.engines import LocalEngine

def slow(batch):
    with open(sys.argv[2], "a") as log:
        log.write(f"{batch['k'][0].as_py()}\\n")
    time.sleep(float(sys.argv[3]))
    return pa.array([2 * k for k in batch["k"].to_pylist()])

table = Table.open(sys.argv[1])
print("ready", flush=True)
table.add_columns(slow, schema=pa.schema([("double", pa.int64())]), read=["k"], engine=LocalEngine(1))
"""


def _compute(table, log, pause, kill=False):
    process = subprocess.Popen(
        [sys.executable, "-c", COMPUTE, table.path, log, str(pause)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    if kill:
        while not (log.exists() and len(log.read_text().split()) >= 4):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_killed_computation_continues(tmp_path, table):
    _fragments(table, 6)
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    _compute(table, first, 0.3, kill=True)
    assert Table.open(table.path).columns == ["k", "text", "x"]
    # another process appends meanwhile: its fragment is computed too
    Table.open(table.path).append([{"k": 1000}])
    _compute(table, second, 0)
    started, resumed = first.read_text().split(), second.read_text().split()
    assert len(started) == 4
    assert set(started[:3]).isdisjoint(resumed)
    assert set(started) | set(resumed) == {"0", "100", "200", "300", "400", "500", "1000"}
    table.refresh()
    assert all(row["double"] == 2 * row["k"] for row in table.rows())


def test_changed_code_does_not_continue_old_results(table):
    _fragments(table, 3)
    calls = []

    def make(factor, fail):
        def compute(batch):
            calls.append(batch["k"][0].as_py())
            if fail and len(calls) == 3:
                raise BrokenError
            return pa.array([factor * k for k in batch["k"].to_pylist()])

        return compute

    with pytest.raises(BrokenError):
        table.add_columns(make(2, True), schema=DOUBLE, engine=LocalEngine(1), resume_key="two")
    table.add_columns(make(3, False), schema=DOUBLE, engine=LocalEngine(1), resume_key="three")
    assert len(calls) == 6
    assert all(row["double"] == 3 * row["k"] for row in table.rows())


APPEND = """
import sys
from deepseek.data import Table
table = Table.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(15):
    table.append([{"k": int(sys.argv[2]) + number}])
"""


def test_two_processes_append_at_once(table):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, table.path, start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for start in ("1000", "2000")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n", timeout=60)
        assert process.returncode == 0
    table.refresh()
    assert table.version == 31
    added = [row["k"] for row in table.rows(where="k >= 1000")]
    assert sorted(added) == [*range(1000, 1015), *range(2000, 2015)]


def test_writers_that_cannot_be_combined_are_told(table):
    other = Table.open(table.path)

    def meanwhile():
        other.append([{"k": 50}])
        yield {"k": 1}

    with pytest.raises(ConflictError, match="changed by another writer"):
        table.replace(meanwhile())
    assert len(Table.open(table.path)) == 21
    table.refresh()

    def replaced():
        other.replace([{"different": 1}])
        yield {"k": 1}

    with pytest.raises(ConflictError):
        table.append(replaced())
    assert Table.open(table.path).columns == ["different"]


def test_an_open_table_follows_appends_but_a_pinned_one_does_not(table):
    other = Table.open(table.path)
    table.append([{"k": 50}])
    other.append([{"k": 51}])
    assert len(other) == 22
    with pytest.raises(TableError, match="newest is 3"):
        Table.open(table.path, 1).append([{"k": 52}])
    with pytest.raises(TableError, match="newest is 3"):
        table.delete("k = 50")
    assert len(table.refresh()) == 22
    assert table.delete("k = 50") == 1


def test_time_travel_and_restore(table):
    before = dt.datetime.now(dt.UTC)
    time.sleep(0.01)
    table.append([{"k": 50}])
    table.tag("grown")
    assert table.tags() == {"grown": 2}
    assert Table.open(table.path, before).version == 1
    assert Table.open(table.path, before.replace(tzinfo=None)).version == 1
    assert Table.open(table.path, dt.datetime.now(dt.UTC)).version == 2
    with pytest.raises(TableError, match="no version from 2000"):
        Table.open(table.path, dt.datetime(2000, 1, 1))
    old = Table.open(table.path, 1).fingerprint()
    assert table.restore(1).version == 3
    assert table.fingerprint() == old
    assert len(table.restore("grown")) == 21
    with pytest.raises(UnknownNameError, match="grown"):
        table.restore("grow")
    table.untag("grown")
    assert table.tags() == {}
    with pytest.raises(UnknownNameError):
        table.untag("grown")


@pytest.mark.parametrize("engine", ["local", LocalEngine(1)])
def test_compaction_and_cleanup(table, engine):
    _fragments(table, 6)
    table.delete("k = 3")
    table.tag("before")
    before = table.fingerprint()
    report = table.compact(engine=engine)
    assert (report.fragments_before, report.fragments_after) == (6, 1)
    assert report.files_after == 1
    assert 0 < report.bytes_after < report.bytes_before
    assert report.bytes_after == table.size()
    assert table.fingerprint() == before
    assert table.compact().version == table.version == report.version
    cleaned = table.cleanup(older_than=dt.timedelta(0))
    assert cleaned.versions_removed > 0
    assert cleaned.bytes_removed > 0
    assert [version.tags for version in table.versions()] == [("before",), ()]
    assert Table.open(table.path, "before").fingerprint() == before
    assert table.cleanup().versions_removed == 0
    with pytest.raises(ConfigError):
        table.cleanup(keep=0)


def test_cleanup_keeps_the_newest(table):
    _fragments(table, 5)
    table.cleanup(older_than=dt.timedelta(0), keep=2)
    assert [version.version for version in table.versions()] == [4, 5]


def test_a_key_that_the_table_has_twice_becomes_one_row(table):
    table.append([{"k": 3, "text": "again", "x": 7.0}])
    report = table.upsert([{"k": 3, "text": "one"}, {"k": 77, "text": "two"}], on="k")
    assert (report.inserted, report.updated) == (1, 1)
    assert list(table.rows(where="k IN (3, 77)")) == [
        {"k": 3, "text": "one", "x": 1.5},
        {"k": 77, "text": "two", "x": None},
    ]


def test_an_upsert_looks_again_when_others_wrote_meanwhile(table):
    other = Table.open(table.path)

    def meanwhile():
        other.append([{"k": 500, "text": "theirs"}])
        yield {"k": 500, "text": "ours"}

    report = table.upsert(meanwhile(), on="k")
    assert (report.inserted, report.updated) == (0, 1)
    assert [row["text"] for row in table.rows(where="k = 500")] == ["ours"]

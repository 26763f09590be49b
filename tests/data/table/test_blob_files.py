"""Blobs read straight from a local table's files are the ones that Lance reads, or Lance is asked."""

import os
import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import Table
from deepseek.data.table import blob_files
from deepseek.data.table.blob_files import BlobReader

SIZES = st.one_of(st.none(), st.sampled_from([0, 1, 70_000, 100_000]), st.integers(0, 5000))


def blob(seed, size):
    return None if size is None else random.Random(seed).randbytes(size)


def straight_only(monkeypatch):
    """Make asking Lance for more than the one blob of a check an error."""
    reference = BlobReader.reference

    def refused(self, column, addresses):
        raise AssertionError("Lance was asked")

    monkeypatch.setattr(BlobReader, "reference", refused)
    return reference


@settings(max_examples=20, deadline=None)
@given(
    parts=st.lists(st.lists(SIZES, min_size=1, max_size=12), min_size=1, max_size=3),
    delete=st.booleans(),
    compact=st.booleans(),
    data=st.data(),
)
def test_straight_reading_equals_lance(tmp_path_factory, parts, delete, compact, data):
    path = tmp_path_factory.mktemp("blobs") / "t.lance"
    rows = [{"n": n, "value": blob(n, size)} for n, size in enumerate(size for part in parts for size in part)]
    schema = pa.schema([("n", pa.int64()), ("value", pa.large_binary())])
    start = 0
    for part in parts:
        chunk = rows[start : start + len(part)]
        start += len(part)
        if path.exists():
            Table.open(path).append(chunk)
        else:
            Table.create(path, chunk, schema=schema, blobs=["value"])
    table = Table.open(path)
    if delete:
        table.delete("n % 3 = 1")
        rows = [row for row in rows if row["n"] % 3 != 1]
    table.add_columns({"twice": "n * 2"})
    if compact:
        table.compact()
    asked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
    with pytest.MonkeyPatch.context() as patch:
        straight_only(patch)
        assert table.take(asked, ["value"])["value"].to_pylist() == [rows[place]["value"] for place in asked]
        assert [row["value"] for row in table.rows()] == [row["value"] for row in rows]


@pytest.fixture
def table(tmp_path):
    rows = [{"n": n, "value": blob(n, 20_000 + n)} for n in range(50)]
    return Table.create(tmp_path / "t.lance", rows)


def test_many_bytes_are_read_by_several_threads(table, monkeypatch):
    straight_only(monkeypatch)
    monkeypatch.setattr(blob_files, "_THREAD_BYTES", 10_000)
    places = list(range(49, -1, -1))
    assert table.take(places, ["value"])["value"].to_pylist() == [blob(n, 20_000 + n) for n in places]


def test_another_layout_is_noticed(table, monkeypatch):
    right = BlobReader._path
    monkeypatch.setattr(BlobReader, "_path", lambda *given: str(Path(right(*given)).parent / "moved.lance"))
    other = Path(table.path) / "data" / "moved.lance"
    for content in (None, b"", os.urandom(2_000_000)):
        if content is not None:
            other.write_bytes(content)
        again = Table.open(table.path)
        assert again.take([3, 1], ["value"])["value"].to_pylist() == [blob(3, 20_003), blob(1, 20_001)]
        assert not any(again._blob_reader._right.values())


def test_a_file_that_ends_too_early_is_left_to_lance(table, monkeypatch):
    assert table.take([0], ["value"])["value"].to_pylist() == [blob(0, 20_000)]
    monkeypatch.setattr(blob_files, "_read", lambda *_: False)
    assert table.take([1, 0], ["value"])["value"].to_pylist() == [blob(1, 20_001), blob(0, 20_000)]


@pytest.mark.parametrize("kept", [0, 64 << 20])
def test_reading_again_and_again(tmp_path, monkeypatch, kept):
    monkeypatch.setattr(blob_files, "KEPT_BYTES", kept)
    rows = [{"n": n, "value": None if n % 9 == 4 else blob(n, 100 * n)} for n in range(40)]
    table = Table.create(tmp_path / "t.lance", rows[:25], blobs=["value"])
    table.append(rows[25:])
    table.delete("n % 4 = 2")
    left = [row for row in rows if row["n"] % 4 != 2]
    straight_only(monkeypatch)
    draws = random.Random(0)
    for _ in range(3 * blob_files.CALLS_BEFORE_KEEPING):
        asked = [draws.randrange(len(left)) for _ in range(7)]
        assert table.take(asked).to_pylist() == [left[place] for place in asked]
        assert table.take(asked, ["value"])["value"].to_pylist() == [left[place]["value"] for place in asked]
    assert (table._blob_reader._kept["value"] is not None) == (kept > 0)
    table.append([{"n": 99, "value": blob(99, 7000)}])
    assert table.take([len(left)])["value"].to_pylist() == [blob(99, 7000)]


def test_open_files_are_few_and_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(blob_files, "OPEN_FILES", 2)
    path = tmp_path / "t.lance"
    Table.create(path, [{"value": blob(0, 9000)}])
    for n in range(1, 8):
        Table.open(path).append([{"value": blob(n, 9000)}])
    table = Table.open(path)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else None
    assert table.take(list(range(8)), ["value"])["value"].to_pylist() == [blob(n, 9000) for n in range(8)]
    assert len(table._blob_reader._open) == 2
    del table
    if before is not None:
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1

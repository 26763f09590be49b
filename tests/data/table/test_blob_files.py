"""Blobs read straight from a local table's files are the ones that Lance reads, or Lance is asked."""

import os
import random
from pathlib import Path

import numpy as np
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
    reader = table._blob_reader
    taken = table._dataset.take([0, 1], columns=["value", "_rowaddr"])
    addresses = np.asarray(taken["_rowaddr"].combine_chunks()).astype(np.int64)
    monkeypatch.setattr(blob_files, "_read", lambda *_: False)
    assert reader._straight("value", taken["value"].combine_chunks(), addresses) is None


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

"""Blobs are bytes from outside, whatever their size, and survive all that a table does."""

import datetime as dt
import io

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import Table
from deepseek.data.table import blob_field, vector_field
from deepseek.errors import TableError, UnknownNameError

SIZES = [0, 10, 5000, 70_000, 5_000_000]  # empty, inline, inline, packed beside, a file of its own
ROWS = [{"n": n, "value": None if n == 5 else bytes([65 + n]) * SIZES[n % 5]} for n in range(12)]


@pytest.fixture
def table(tmp_path):
    return Table.create(tmp_path / "t.lance", ROWS)


def test_large_values_become_blobs_and_small_ones_do_not(tmp_path, table):
    assert table.blobs == ["value"]
    assert table.schema.field("value").type == pa.large_binary()
    small = Table.create(tmp_path / "small.lance", [{"hash": b"12345678"}] * 10)
    assert small.blobs == []
    assert Table.create(tmp_path / "asked.lance", [{"hash": b"12345678"}], blobs=["hash"]).blobs == ["hash"]
    assert Table.create(tmp_path / "not.lance", ROWS, blobs=[]).blobs == []
    schema = pa.schema([blob_field("hash")])
    assert Table.create(tmp_path / "typed.lance", [{"hash": b"12345678"}], schema=schema).blobs == ["hash"]
    assert Table.create(tmp_path / "again.lance", table.batches(), schema=table.schema).blobs == ["value"]


def test_every_way_of_reading_gives_the_bytes(table):
    assert list(table.rows()) == ROWS
    assert table.to_arrow().to_pylist() == ROWS
    assert table.to_arrow(limit=3).to_pylist() == ROWS[:3]
    assert table.reader().read_all().to_pylist() == ROWS
    assert table.take([4, 0, 5, 4]).to_pylist() == [ROWS[4], ROWS[0], ROWS[5], ROWS[4]]
    assert table.take([2], ["value"]).to_pylist() == [{"value": ROWS[2]["value"]}]
    assert table.take([2], ["value", "n"]).column_names == ["value", "n"]
    assert list(table.rows(["value"], where="n >= 9")) == [{"value": row["value"]} for row in ROWS[9:]]
    assert table.count("value IS NULL") == 1
    assert [batch.num_rows for batch in table.batches(batch_size=5)] == [5, 5, 2]


def test_batches_are_cut_by_bytes(tmp_path, monkeypatch):
    from deepseek.data.table import batching

    monkeypatch.setattr(batching, "BATCH_BYTES", 100_000)
    for blobs in (["value"], []):
        rows = [{"value": b"x" * (60_000 if n % 7 == 0 else 100)} for n in range(200)]
        table = Table.create(tmp_path / f"t{len(blobs)}.lance", rows, blobs=blobs)
        batches = list(table.batches())
        assert len(batches) > 5
        assert [row for batch in batches for row in batch.to_pylist()] == rows
        if blobs:
            assert max(batch.nbytes for batch in batches) < 110_000


def test_open_blob_reads_a_part_of_it(table):
    with table.open_blob("value", 4) as file:
        assert file.seek(-3, io.SEEK_END) == 4_999_997
        assert file.read() == b"EEE"
        file.seek(0)
        assert file.read(2) == b"EE"
    assert table.open_blob("value", 5) is None
    assert table.open_blob("value", 0).read() == b""
    with pytest.raises(TableError, match="position from 0 to 11, received 12"):
        table.open_blob("value", 12)
    with pytest.raises(UnknownNameError, match="value"):
        table.open_blob("valu", 0)


def test_open_blob_of_a_plain_column(tmp_path):
    table = Table.create(tmp_path / "t.lance", [{"hash": b"1234", "n": 1}])
    assert table.open_blob("hash", 0).read() == b"1234"
    with pytest.raises(TableError, match="expected bytes, received int64"):
        table.open_blob("n", 0)


def test_blobs_survive_a_tables_life(table):
    table.append(ROWS[:3])
    table.append([{"n": 99}])
    table.upsert([{"n": 6, "value": b"new" * 9000}], on="n")
    table.update({"n": "n + 100"}, where="n = 7")
    table.delete("n = 8")
    table.rename_columns({"value": "image"})
    expected = {row["n"]: row["value"] for row in ROWS} | {6: b"new" * 9000, 107: ROWS[7]["value"], 99: None}
    del expected[7], expected[8]
    for _ in range(2):
        assert {row["n"]: row["image"] for row in table.rows()} == expected
        assert len(table) == 15
        before = table.fingerprint()
        table.compact()
        table.cleanup(older_than=dt.timedelta(0))
        assert table.fingerprint() == before
    table.restore(table.version)
    table.drop_columns(["image"])
    assert table.columns == ["n"]


def test_fingerprint_is_the_same_however_bytes_are_stored(tmp_path, table):
    plain = Table.create(tmp_path / "plain.lance", ROWS, blobs=[])
    narrow = Table.create(tmp_path / "narrow.lance", pa.table({"n": [0], "value": pa.array([b"x"], pa.binary())}))
    wide = Table.create(tmp_path / "wide.lance", pa.table({"n": [0], "value": pa.array([b"x"], pa.large_binary())}))
    assert plain.fingerprint() == table.fingerprint()
    assert narrow.fingerprint() == wide.fingerprint()
    assert wide.fingerprint() != plain.fingerprint()


@settings(max_examples=15, deadline=None)
@given(values=st.lists(st.none() | st.binary(max_size=50), min_size=1, max_size=40), data=st.data())
def test_any_bytes_come_back(tmp_path_factory, values, data):
    path = tmp_path_factory.mktemp("blobs") / "t.lance"
    table = Table.create(
        path, [{"value": value} for value in values], blobs=["value"], schema=pa.schema([blob_field("value")])
    )
    assert [row["value"] for row in table.rows()] == values
    places = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20))
    assert table.take(places)["value"].to_pylist() == [values[place] for place in places]


def test_what_cannot_be_a_blob_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="value"):
        Table.create(tmp_path / "t.lance", ROWS, blobs=["valu"])
    with pytest.raises(TableError, match="column 'n': expected bytes, received int64"):
        Table.create(tmp_path / "t.lance", ROWS, blobs=["n"])


def test_vectors_have_one_length(tmp_path):
    schema = pa.schema([vector_field("v", 3)])
    table = Table.create(tmp_path / "t.lance", [{"v": [1.0, 2.0, 3.0]}, {"v": None}], schema=schema)
    assert table.to_arrow().to_pylist() == [{"v": [1.0, 2.0, 3.0]}, {"v": None}]
    with pytest.raises(TableError, match="column 'v', row 0"):
        table.append([{"v": [1.0]}])
    with pytest.raises(TableError, match="at least 1 dimension"):
        vector_field("v", 0)

"""Tables: what is written is what is read, versions stay, and errors say what to do."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import Table
from deepseek.errors import TableError, UnknownNameError

ROWS = [{"text": "good", "label": "pos", "n": 1}, {"text": "bad", "label": "neg", "n": 2}]


@pytest.fixture
def table(tmp_path):
    return Table.create(tmp_path / "reviews.lance", ROWS, metadata={"source": "me", "license": "MIT"})


@pytest.mark.parametrize("kind", ["table", "reader", "batch", "dicts", "batches", "generator"])
def test_create_takes_every_kind_of_rows(tmp_path, kind):
    arrow = pa.Table.from_pylist(ROWS)
    rows = {
        "table": arrow,
        "reader": arrow.to_reader(),
        "batch": arrow.to_batches()[0],
        "dicts": ROWS,
        "batches": arrow.to_batches(),
        "generator": (row for row in ROWS),
    }[kind]
    table = Table.create(tmp_path / "t.lance", rows)
    assert list(Table.open(table.path).rows()) == ROWS
    assert len(table) == 2
    assert table.version == 1


def test_metadata_and_columns_are_kept(table):
    opened = Table.open(table.path)
    assert opened.metadata == {"source": "me", "license": "MIT"}
    assert opened.columns == ["text", "label", "n"]


def test_create_over_a_table_needs_overwrite_and_keeps_the_old_version(table):
    with pytest.raises(TableError, match="overwrite=True"):
        Table.create(table.path, ROWS)
    again = Table.create(table.path, [{"other": 1.5}], overwrite=True)
    assert (again.version, again.columns) == (2, ["other"])
    assert list(Table.open(table.path, 1).rows()) == ROWS


def test_no_rows_need_a_schema(tmp_path):
    with pytest.raises(TableError, match="schema="):
        Table.create(tmp_path / "t.lance", [])
    assert not (tmp_path / "t.lance").exists()
    empty = Table.create(tmp_path / "t.lance", [], schema=pa.schema([("text", pa.string())]))
    assert len(empty) == 0
    assert empty.columns == ["text"]
    assert empty.append([{"text": "now"}]).to_arrow().to_pylist() == [{"text": "now"}]


def test_missing_table_names_its_neighbours(table, tmp_path):
    with pytest.raises(TableError, match=r"no table at .*review\.lance.*reviews\.lance"):
        Table.open(tmp_path / "review.lance")


def test_a_folder_that_is_no_table_is_left_alone(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(TableError, match="not a table"):
        Table.open(tmp_path / "notes")
    for overwrite in (False, True):
        with pytest.raises(TableError, match="not a table"):
            Table.create(tmp_path / "notes", ROWS, overwrite=overwrite)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"


def test_versions_tags_and_time_travel(table):
    table.tag("first")
    table.append([{"text": "fine", "label": "pos", "n": 3}])
    assert [(v.version, v.rows, v.tags) for v in table.versions()] == [(1, 2, ("first",)), (2, 3, ())]
    assert table.versions()[0].timestamp.tzinfo is not None
    assert len(Table.open(table.path, "first")) == 2
    assert len(Table.open(table.path, 1)) == 2
    with pytest.raises(TableError, match="existing versions: 1 to 2"):
        Table.open(table.path, 7)
    with pytest.raises(UnknownNameError, match="first"):
        Table.open(table.path, "frist")
    with pytest.raises(TableError, match="already names version 1"):
        table.tag("first")


def test_an_old_version_is_read_only(table):
    table.append(ROWS)
    with pytest.raises(TableError, match="newest is 2"):
        Table.open(table.path, 1).append(ROWS)


def test_append_fills_missing_columns_with_null_and_takes_wide_strings(table):
    table.append(pa.table({"text": pa.array(["wide"], pa.large_string())}))
    assert table.take([2]).to_pylist() == [{"text": "wide", "label": None, "n": None}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pa.table({"n": ["one"]}), "column 'n': expected int64, received string"),
        ([{"n": "one"}], "column 'n', row 0: expected int64, received str 'one'"),
        ([{"txt": "x"}], "column 'txt'"),
        (pa.table({"txt": ["x"]}), "no column 'txt'"),
        ([{"n": 1}] * 9000 + [{"n": "late"}], "row 9000: expected int64, received str 'late'"),
    ],
)
def test_append_that_does_not_fit_names_the_column_and_changes_nothing(table, rows, message):
    before = table.fingerprint()
    with pytest.raises(TableError, match=message):
        table.append(rows)
    assert (Table.open(table.path).version, Table.open(table.path).fingerprint()) == (1, before)


def test_replace_keeps_metadata_and_delete_counts(table):
    assert table.delete("label = 'neg'") == 1
    assert [row["text"] for row in table.rows()] == ["good"]
    assert table.delete("label = 'none'") == 0
    assert table.version == 2
    table.replace([{"z": 1.5}])
    assert (table.columns, table.metadata["source"], table.version) == (["z"], "me", 3)


def test_selection(table):
    assert table.to_arrow(["n"], where="label = 'neg'").to_pylist() == [{"n": 2}]
    assert table.to_arrow(limit=1).num_rows == 1
    assert table.to_arrow(limit=0).num_rows == 0
    assert table.take([1, 0], ["text"]).to_pylist() == [{"text": "bad"}, {"text": "good"}]
    assert table.take([], ["text"]).num_rows == 0
    assert [batch.num_rows for batch in table.batches(batch_size=1)] == [1, 1]
    with pytest.raises(TableError, match="positions 0 to 1, received 5"):
        table.take([5])


def test_unknown_columns_and_bad_conditions(table):
    for use in (table.to_arrow, table.rows, lambda c: table.take([0], c)):
        with pytest.raises(UnknownNameError, match="Did you mean 'label'"):
            list(use(["lable"]))
    with pytest.raises(UnknownNameError, match="Did you mean 'label'"):
        table.to_arrow(where="lable = 'x'")
    with pytest.raises(UnknownNameError, match="Did you mean 'label'"):
        table.delete("lable = 'x'")
    with pytest.raises(TableError, match=r"cannot be applied.*Expected SQL") as caught:
        table.to_arrow(where="n >>> 3")
    assert ".rs:" not in str(caught.value)
    with pytest.raises(TableError, match="list of names"):
        table.to_arrow("text")


def test_add_columns(table):
    table.add_columns({"twice": "n * 2"}).add_columns(pa.table({"vector": [[1.0], [2.0]]}))
    assert [(row["twice"], row["vector"]) for row in table.rows()] == [(2, [1.0]), (4, [2.0])]
    with pytest.raises(TableError, match="'twice' already"):
        table.add_columns({"twice": "n"})
    with pytest.raises(TableError, match="expected 2 rows, received 1"):
        table.add_columns(pa.table({"x": [1]}))
    with pytest.raises(UnknownNameError, match="column 'm'"):
        table.add_columns({"x": "m + 1"})


VALUES = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        "number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "real": st.none() | st.floats(allow_nan=False),
        "flag": st.none() | st.booleans(),
        "list": st.none() | st.lists(st.integers(0, 9), max_size=3),
        "record": st.none() | st.fixed_dictionaries({"a": st.none() | st.text("ab", max_size=2)}),
    }
)
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.int64()),
        ("real", pa.float64()),
        ("flag", pa.bool_()),
        ("list", pa.list_(pa.int64())),
        ("record", pa.struct([("a", pa.string())])),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, max_size=12), st.integers(1, 5), st.data())
def test_fingerprint_depends_on_content_only(rows, batch_rows, data):
    from deepseek.data.table.fingerprint import fingerprint

    arrow = pa.Table.from_pylist(rows, SCHEMA)
    one = fingerprint(SCHEMA, arrow.to_batches())
    sliced = [arrow.slice(i, batch_rows).to_batches()[0] for i in range(0, len(rows), batch_rows)]
    assert fingerprint(SCHEMA, sliced) == one
    if rows:
        changed = [dict(row) for row in rows]
        place = data.draw(st.integers(0, len(rows) - 1))
        changed[place]["number"] = 7 if changed[place]["number"] != 7 else None
        assert fingerprint(SCHEMA, pa.Table.from_pylist(changed, SCHEMA).to_batches()) != one


def test_fingerprint_ignores_place_fragments_and_metadata(table, tmp_path):
    other = Table.create(tmp_path / "elsewhere.lance", ROWS[:1], schema=table.schema).append(ROWS[1:])
    assert other.fingerprint() == table.fingerprint()
    assert Table.open(table.path, 1).fingerprint() != other.append(ROWS).fingerprint()


def test_random_access_agrees_with_a_scan(tmp_path):
    table = Table.create(tmp_path / "t.lance", ({"n": n} for n in range(20_000)))
    places = np.random.default_rng(0).integers(0, 20_000, 50)
    assert table.take(places)["n"].to_pylist() == places.tolist()
    assert [row["n"] for row in table.rows()] == list(range(20_000))


def test_one_megabyte_sentence_survives(tmp_path):
    table = Table.create(tmp_path / "t.lance", [{"text": "é" * 1_000_000}])
    assert len(next(table.rows())["text"]) == 1_000_000

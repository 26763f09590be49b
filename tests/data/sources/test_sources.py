"""Sources: what can be read is read, what cannot is named, and nothing is replaced silently."""

import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import SOURCES, Source, Table, ingest, open_source
from deepseek.errors import ConfigError, DataError, TableError, UnknownNameError


def read(path, **options):
    rejects = []
    rows = list(open_source(path, **options).rows(rejects.append))
    return rows, [(reject.line, reject.reason) for reject in rejects]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_registered_source_is_a_source():
    for name in SOURCES:
        assert issubclass(SOURCES.get(name), Source)


def test_csv_types_quotes_bom_and_crlf(tmp_path):
    content = b'\xef\xbb\xbftext,n,x,id\r\n"a, ""b""\r\nc",1,1,007\r\nd,2,2.5,8\r\n\r\n,,,\r\n'
    rows, rejects = read(write(tmp_path / "a.csv", content))
    assert rows == [
        {"text": 'a, "b"\r\nc', "n": 1, "x": 1.0, "id": "007"},
        {"text": "d", "n": 2, "x": 2.5, "id": "8"},
        {"text": None, "n": None, "x": None, "id": None},
    ]
    assert rejects == []


def test_csv_rejects_carry_reason_and_line(tmp_path):
    content = b'text,n\nok,1\n\xff\xfe,2\n"two\nlines",3\nshort\n"q"z,4\n"never closed,5\nlast,6\n'
    rows, rejects = read(write(tmp_path / "a.csv", content))
    assert rows == [{"text": "ok", "n": 1}, {"text": "two\nlines", "n": 3}]
    assert [line for line, _ in rejects] == [3, 6, 7, 8]
    assert [reason for _, reason in rejects][:2] == ["not valid UTF-8", "expected 2 columns, received 1"]
    assert "never closed (lines 8 to 9)" in rejects[3][1]


def test_csv_with_a_given_schema_rejects_what_does_not_fit(tmp_path):
    schema = pa.schema([("text", pa.string()), ("n", pa.int64())])
    rows, rejects = read(write(tmp_path / "a.csv", "text,n\na,1\nb,x\nc,3\n"), schema=schema)
    assert [row["text"] for row in rows] == ["a", "c"]
    assert rejects == [(3, "column 'n': expected int64, received str")]


def test_csv_learns_types_from_all_rows(tmp_path):
    rows, rejects = read(write(tmp_path / "a.csv", "n\n" + "1\n" * 10_000 + "late\n"))
    assert rows[-1] == {"n": "late"}
    assert rows[0] == {"n": "1"}
    assert rejects == []


@pytest.mark.parametrize("header", ["a,a\n1,2\n", "a,\n1,2\n"])
def test_csv_header_must_name_each_column_once(tmp_path, header):
    path = write(tmp_path / "a.csv", header)
    with pytest.raises(DataError, match="header"):
        open_source(path).schema()
    assert read(path, columns=["x", "y"])[0][0].keys() == {"x", "y"}


def test_tsv_has_no_quoting(tmp_path):
    rows, rejects = read(write(tmp_path / "a.tsv", 'text\tn\n"open\t1\nit\'s "fine"\t2\n'))
    assert [row["text"] for row in rows] == ['"open', 'it\'s "fine"']
    assert rejects == []


def test_encoding_can_be_given(tmp_path):
    for encoding in ("gb18030", "utf-16"):
        path = write(tmp_path / f"{encoding}.csv", "text,n\n很好,1\n".encode(encoding))
        assert read(path, encoding=encoding)[0] == [{"text": "很好", "n": 1}]
    with pytest.raises(ConfigError, match="utf-9"):
        list(open_source(path, encoding="utf-9").rows())


def test_jsonl_rejects_and_nested_values(tmp_path):
    lines = [
        b'\xef\xbb\xbf{"a": 1, "tags": ["x"]}\r',
        b'{"a": 2.5}',
        b'{"a": "\xff"}',
        b"[1]",
        b'{"a": "text"}',
        b'{"b": "\\ud800"}',
        b"",
        b"{broken",
    ]
    rows, rejects = read(write(tmp_path / "a.jsonl", b"\n".join(lines)))
    assert rows == [{"a": 1.0, "tags": ["x"], "b": None}, {"a": 2.5, "tags": None, "b": None}]
    assert sorted(line for line, _ in rejects) == [3, 4, 5, 6, 8]
    assert dict(rejects)[3] == "not valid UTF-8"
    assert dict(rejects)[5] == "column 'a': expected double, received str"


def test_parquet(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b"], "n": [1, 2]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0] == [{"text": "a", "n": 1}, {"text": "b", "n": 2}]
    with pytest.raises(DataError, match="not a readable Parquet"):
        read(write(tmp_path / "b.parquet", b"PAR1 this is none"))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_empty_and_missing_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with pytest.raises(DataError, match="there is no file"):
        ingest(path, tmp_path / "t.lance")
    write(path, b"")
    with pytest.raises(DataError, match="is empty"):
        ingest(path, tmp_path / "t.lance")
    assert not (tmp_path / "t.lance").exists()


@pytest.mark.parametrize(("suffix", "content"), [("csv", "text,label\n"), ("jsonl", "\n\n"), ("csv", "\ufeff")])
def test_a_file_without_rows(tmp_path, suffix, content):
    with pytest.raises(DataError, match="no readable rows"):
        ingest(write(tmp_path / f"a.{suffix}", content), tmp_path / "t.lance")
    assert not (tmp_path / "t.lance").exists()


def test_names_options_and_suffixes(tmp_path):
    with pytest.raises(UnknownNameError, match="hutto-movie-reviews"):
        open_source("huto-movie-reviews")
    with pytest.raises(DataError, match=r"'\.xyz'.*format="):
        open_source("a.xyz")
    with pytest.raises(ConfigError, match="no option 'sheet'"):
        open_source("a.csv", sheet=1)
    assert read(write(tmp_path / "a.txt", '{"a": 1}'), format="jsonl")[0] == [{"a": 1}]


def test_ingest_writes_rejects_beside_the_table(tmp_path):
    path = write(tmp_path / "a.csv", b"text,label\nok,pos\n\xff,neg\nshort\nfine,neg\n")
    report = ingest(path, tmp_path / "t.lance", metadata={"license": "MIT"})
    assert (report.rows, report.rejected) == (2, 2)
    assert report.reasons == {"not valid UTF-8": 1, "expected 2 columns, received 1": 1}
    assert Table.open(report.table).metadata == {"source": "a.csv", "license": "MIT"}
    rejects = list(Table.open(report.rejects_table).rows())
    assert [(row["line"], row["raw"]) for row in rejects] == [(3, "\\xff,neg"), (4, "short")]
    with pytest.raises(TableError, match="overwrite=True"):
        ingest(path, tmp_path / "t.lance")
    write(path, "text,label\nok,pos\n")
    again = ingest(path, tmp_path / "t.lance", overwrite=True)
    assert (again.version, again.rejects_table) == (2, None)
    assert len(Table.open(report.rejects_table)) == 0


def test_ingest_without_rejects_makes_no_rejects_table(tmp_path):
    assert ingest(write(tmp_path / "a.csv", "a\n1\n"), tmp_path / "t.lance").rejects_table is None
    assert not (tmp_path / "t.rejects.lance").exists()


def test_strict_ingest_stops_and_writes_nothing(tmp_path):
    path = write(tmp_path / "a.csv", b"text,label\nok,pos\n\xff,neg\n")
    with pytest.raises(DataError, match="line 3: not valid UTF-8"):
        ingest(path, tmp_path / "t.lance", strict=True)
    assert list(tmp_path.iterdir()) == [path]


def test_one_megabyte_cell(tmp_path):
    rows, rejects = read(write(tmp_path / "a.csv", "text,n\n" + "x" * 1_000_000 + ",1\n"))
    assert len(rows[0]["text"]) == 1_000_000
    assert rejects == []


def test_reading_is_bounded_by_a_batch(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        for n in range(40_000):
            file.write(json.dumps({"n": n, "text": "x" * 1_000}) + "\n")
    source = open_source(path, schema=pa.schema([("n", pa.int64()), ("text", pa.string())]))
    tracemalloc.start()
    assert sum(batch.num_rows for batch in source.batches()) == 40_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6))
def test_what_the_csv_module_writes_comes_back(tmp_path_factory, cells):
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *cells])
    schema = pa.schema([("a", pa.string()), ("b", pa.string())])
    rows, rejects = read(path, schema=schema)
    assert rejects == []
    assert rows == [{"a": a or None, "b": b or None} for a, b in cells]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=8), st.sampled_from(["csv", "tsv", "jsonl"]))
def test_any_bytes_give_rows_or_rejects_and_never_crash(tmp_path_factory, lines, suffix):
    path = tmp_path_factory.mktemp("bytes") / f"a.{suffix}"
    good = b'{"a": 1}' if suffix == "jsonl" else b"a\n1"
    path.write_bytes(good + b"\n" + b"\n".join(lines))
    rows, _ = read(path)
    assert str(rows[0]["a"]) in {"1", "1.0"}

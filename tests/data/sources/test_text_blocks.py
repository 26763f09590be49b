"""The fast paths of CSV, TSV and JSONL against their references: the same schema, rows and rejects, whatever the bytes."""

import gzip
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data import open_source
from deepseek.data.sources import delimited_blocks, jsonl_blocks
from deepseek.errors import DataError

SETTINGS = settings(max_examples=80, deadline=None)
CELLS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(repr),
    st.sampled_from(
        [
            "",
            "007",
            "+5",
            "0x1F",
            " 5",
            "1_000",
            "-0",
            "-0.0",
            ".5",
            "1.",
            "1e5",
            "1e999",
            "1e-999",
            "nan",
            "inf",
            "true",
        ]
    ),
    st.sampled_from(
        ['""', '"a"', '"a""b"', '"a,b"', '"a\nb"', '"a\r\nb"', 'a"b', '"a"b', '"', "é", "\ufeff", "a\rb", "\0"]
    ),
    st.text("ab,\"\n\r\t ;'é", max_size=5),
)
NUMBERS = st.one_of(st.integers(-100, 100).map(str), st.floats(allow_nan=False).map(repr), st.just(""))


def outcome(path, **options):
    rejects = []
    try:
        source = open_source(path, **options)
        schema = source.schema()
        table = pa.Table.from_batches(list(source.batches(rejects.append)), schema)
    except DataError as error:
        return str(error)
    return schema, [[_exact(cell) for cell in row.values()] for row in table.to_pylist()], rejects


def _exact(cell):
    return repr(cell)  # tells -0.0 from 0.0, and NaN equals NaN


def agree(path, **options):
    fast, reference = outcome(path, **options), outcome(path, fast=False, **options)
    assert fast == reference
    return fast


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("deepseek.data.sources.lines.BLOCK_BYTES", 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("blocks")


@SETTINGS
@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=12),
    ending=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    suffix=st.sampled_from(["csv", "tsv"]),
)
def test_delimited_cells(folder, rows, ending, last, suffix):
    delimiter = "," if suffix == "csv" else "\t"
    path = folder / f"a.{suffix}"
    body = ending.join(delimiter.join(row) for row in [["a", "b"], *rows]) + (ending if last else "")
    path.write_bytes(body.encode())
    agree(path)


@SETTINGS
@given(
    rows=st.lists(st.tuples(NUMBERS, CELLS), min_size=1, max_size=12),
    kind=st.sampled_from(
        [pa.int64(), pa.int8(), pa.float64(), pa.float32(), pa.bool_(), pa.string(), pa.large_string()]
    ),
)
def test_delimited_with_a_given_schema(folder, rows, kind):
    path = folder / "s.csv"
    path.write_text("a,b\n" + "\n".join(",".join(row) for row in rows), newline="")
    agree(path, schema=pa.schema([("a", kind), ("b", kind), ("absent", pa.int64())]))


@SETTINGS
@given(st.lists(st.binary(max_size=30), max_size=10), st.sampled_from(["csv", "tsv", "jsonl"]))
def test_any_bytes(folder, lines, suffix):
    path = folder / f"b.{suffix}"
    path.write_bytes((b'{"a": 1}' if suffix == "jsonl" else b"a,b\n1,2") + b"\n" + b"\n".join(lines))
    agree(path)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.integers(-9, 9),
        st.floats(),
        st.sampled_from(["", "a", "2020-01-01", "2020-01-01 10:00:00", "é\n", "\ud800", "1"]),
        st.just(2**53 + 1),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner, max_size=2)),
    max_leaves=5,
)
KEYS = st.sampled_from(["a", "b", "c"])


@SETTINGS
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=3), min_size=1, max_size=12), st.booleans())
def test_json_values(folder, rows, ascii_only):
    path = folder / "a.jsonl"
    text = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    agree(path)


TYPED = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(-5, 5),
        "b": st.floats(-9, 9).map(lambda x: round(x, 3)),
        "c": st.text(max_size=4),
        "d": st.lists(st.integers(0, 3), max_size=2),
        "e": st.fixed_dictionaries({}, optional={"x": st.booleans(), "y": st.floats(0, 1)}),
    },
)


@SETTINGS
@given(st.lists(TYPED, min_size=1, max_size=20))
def test_json_rows_of_one_shape(folder, rows):
    path = folder / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    agree(path)


@SETTINGS
@given(
    st.lists(
        st.sampled_from(['{"a":1}', '{"a":1} {"a":2}', '{"a":', "1}", '{"a":1,', '"b":{}}', "}{", "{", "}", ""]),
        max_size=8,
    )
)
def test_json_objects_across_lines(folder, lines):
    path = folder / "x.jsonl"
    path.write_text('{"a":1}\n' + "\n".join(lines))
    agree(path)


@pytest.mark.parametrize(
    "line",
    [
        '{"a": -0}',
        '{"a": -0.0}',
        '{"a": 9007199254740993}',
        '{"a": 1e2}',
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        '{"a": 1} {"a": 2}',
        '{"a": 1e999}',
        '{"a": "x"}',
        '{"b": 1}',
        '{"A": 1}',
        '{"a": 01}',
        '\ufeff{"a": 1}',
        '{"a": 1} ',
        "{'a': 1}",
    ],
)
@pytest.mark.parametrize("kind", [None, pa.int64(), pa.float64(), pa.float32()])
def test_json_traps(folder, line, kind):
    path = folder / "trap.jsonl"
    path.write_text('{"a": 0.5}\n' + line + '\n{"a": 2}\n')
    agree(path, **({"schema": pa.schema([("a", kind)])} if kind else {}))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_clean_text_never_needs_the_reference(folder, suffix, monkeypatch):
    monkeypatch.setattr("deepseek.data.sources.lines.BLOCK_BYTES", 1_000)
    path = folder / f"clean.{suffix}"
    if suffix == "csv":
        rows = [f'{n},{n / 8},"quoted, ""{n}""",plain\n' for n in range(500)]
        path.write_text("id,x,text,more\n" + "".join(rows))
    else:
        path.write_text("".join(json.dumps({"id": n, "x": n / 8 + 0.5, "text": f"{n}"}) + "\n" for n in range(500)))
    used = []
    for module, name in ((delimited_blocks, "_read"), (jsonl_blocks, "_read")):
        original = getattr(module, name)

        def spy(*args, original=original):
            result = original(*args)
            used.append(result is not None)
            return result

        monkeypatch.setattr(module, name, spy)
    agree(path)
    assert len(used) > 20
    assert all(used)


@pytest.mark.parametrize(("suffix", "codec"), [("gz", "gzip"), ("zst", "zstd"), ("bz2", "bz2")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030", "shift_jis"])
def test_compressed_and_encoded_text_resumes_exactly(folder, suffix, codec, encoding):
    text = "id,text\n" + "".join(f"{n},日本 {n}\n" for n in range(60)) + "short\n"
    path = folder / f"{encoding}.csv.{suffix}"
    with pa.output_stream(str(path), compression=codec) as file:
        file.write(text.encode(encoding))
    rejects = []
    source = open_source(path, encoding=encoding)
    chunks = list(source.chunks(None, rejects.append))
    rows = [row for chunk in chunks for row in chunk.batch.to_pylist()]
    assert rows == [{"id": n, "text": f"日本 {n}"} for n in range(60)]
    assert [(reject.line, reject.reason) for reject in rejects] == [(62, "expected 2 columns, received 1")]
    assert len(chunks) > 10
    seen = 0
    for chunk in chunks:
        seen += chunk.batch.num_rows
        rest = [row for c in source.chunks(chunk.position, lambda _r: None) for row in c.batch.to_pylist()]
        assert rest == rows[seen:]


def test_damaged_compression_is_said(folder):
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 10_000)
    for name, content in (("cut", whole[: len(whole) // 2]), ("none", b"a,b\n1,2\n")):
        path = folder / f"{name}.csv.gz"
        path.write_bytes(content)
        with pytest.raises(DataError, match="compressed data cannot be read"):
            list(open_source(path).rows())


def test_bytes_that_are_wrong_in_another_encoding_are_rejects(folder):
    path = folder / "sjis.csv"
    path.write_bytes("a\n日本\n".encode("shift_jis") + b"\x81\xff\n\xc3\xa9\xff\n" + "末\n".encode("shift_jis"))
    rejects = []
    rows = list(open_source(path, encoding="shift_jis").rows(rejects.append))
    assert [row["a"] for row in rows] == ["日本", "末"]
    assert {reject.reason for reject in rejects} == {"not valid shift_jis"}
    assert [reject.line for reject in rejects] == [3, 4]

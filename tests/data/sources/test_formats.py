"""Formats beyond text: what each adds to the contract that all sources share, and how a source is chosen."""

import io
import json
import sqlite3
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from source_samples import png, table

from deepseek.data import Table, ingest, open_source
from deepseek.errors import ConfigError, DataError

PIL = pytest.importorskip("PIL.Image")


def read(data, **options):
    rejects = []
    return list(open_source(data, **options).rows(rejects.append)), rejects


# --- choosing -----------------------------------------------------------------------------------------------------


def test_several_files_are_one_source(tmp_path):
    for name, text in (("b", "n,text\n1.5,x\n"), ("a", "n,text\n1,y\nbroken\n"), ("c", "text,n\nz,2\n")):
        (tmp_path / f"{name}.csv").write_text(text)
    for data in (tmp_path, str(tmp_path / "*.csv"), [tmp_path / f"{name}.csv" for name in "abc"]):
        rows, rejects = read(data)
        assert [(row["n"], row["text"]) for row in rows] == [(1.0, "y"), (1.5, "x"), (2.0, "z")]
        assert [reject.source for reject in rejects] == [str(tmp_path / "a.csv")]
    (tmp_path / "d.csv").write_text("other\n1\n")
    with pytest.raises(DataError, match=r"d\.csv has other columns than .*a\.csv"):
        open_source(tmp_path).schema()
    with pytest.raises(DataError, match="no file matches"):
        open_source(str(tmp_path / "*.tsv"))


def test_json_files_unite_their_keys(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "b.jsonl.gz").write_bytes(__import__("gzip").compress(b'{"a": 1.5, "b": "x"}\n'))
    assert read(tmp_path)[0] == [{"a": 1.0, "b": None}, {"a": 1.5, "b": "x"}]


def test_a_folder_must_be_of_one_kind(tmp_path):
    pq.write_table(table(3), tmp_path / "a.parquet")
    assert len(read(tmp_path)[0]) == 3
    (tmp_path / "b.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="csv, parquet; give format="):
        open_source(tmp_path)
    assert len(read(tmp_path, format="parquet")[0]) == 3
    with pytest.raises(DataError, match="has no jsonl files"):
        open_source(tmp_path, format="jsonl")
    with pytest.raises(DataError, match="expected a path"):
        open_source(17)


# --- Arrow and pandas ---------------------------------------------------------------------------------------------


def test_arrow_in_memory_and_feather(tmp_path):
    rows = table(5).to_pylist()
    feather.write_feather(table(5), str(tmp_path / "a.feather"), compression="zstd")
    with pa.OSFile(str(tmp_path / "s.arrow"), "wb") as file, pa.ipc.new_stream(file, table(5).schema) as writer:
        writer.write_table(table(5))
    for data in (
        table(5),
        table(5).to_batches()[0],
        tmp_path / "a.feather",
        tmp_path / "s.arrow",
        table(5).to_reader(),
    ):
        assert read(data)[0] == rows
    reader = open_source(table(5).to_reader())
    assert len(list(reader.rows())) == 5
    with pytest.raises(DataError, match="can be read once"):
        list(reader.rows())
    (tmp_path / "b.arrow").write_bytes((tmp_path / "s.arrow").read_bytes()[:-100])
    (tmp_path / "c.arrow").write_bytes(b"none of it")
    for name, message in (("b.arrow", "damaged"), ("c.arrow", "not a readable Arrow file")):
        with pytest.raises(DataError, match=message):
            read(tmp_path / name)


def test_pandas_types_indices_and_missing_values():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None, 3], dtype="Int64"),
            "x": [0.5, np.nan, 2.5],
            "when": pd.to_datetime(["2024-01-01", None, "2024-01-03"]),
            "kind": pd.Categorical(["a", "b", None]),
            "mixed": [1, 2.5, None],
        },
        index=pd.Index(["i", "j", "k"], name="key"),
    )
    rows, rejects = read(frame)
    assert rejects == []
    assert list(rows[0]) == ["key", "n", "x", "when", "kind", "mixed"]
    assert [row["n"] for row in rows] == [1, None, 3]
    assert [row["x"] for row in rows] == [0.5, None, 2.5]
    assert rows[1]["when"] is None
    rows, rejects = read(pd.DataFrame({"a": ["x", 5, "y", b"z"]}))
    assert [row["a"] for row in rows] == ["x", "y"]
    assert [(r.line, r.reason) for r in rejects] == [
        (2, "column 'a': expected string, received int"),
        (4, "column 'a': expected string, received bytes"),
    ]
    with pytest.raises(DataError, match="column 'a' twice"):
        open_source(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(DataError, match="no rows"):
        open_source(pd.DataFrame({"a": []})).schema()


def test_optional_libraries_are_imported_only_by_their_users(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    script = (
        "import sys; from deepseek.data import open_source; list(open_source(sys.argv[1]).rows()); "
        "print(sorted({'datasets', 'PIL', 'pydicom', 'nibabel', 'nrrd', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.csv")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- images -------------------------------------------------------------------------------------------------------


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def encoded(kind, size=(40, 30), **options):
    buffer = io.BytesIO()
    PIL.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def test_images_of_all_kinds_with_labels(tmp_path):
    for name, kind in (
        ("a.png", "PNG"),
        ("b.jpg", "JPEG"),
        ("c.gif", "GIF"),
        ("d.bmp", "BMP"),
        ("e.webp", "WEBP"),
        ("f.tif", "TIFF"),
    ):
        write(tmp_path / "train" / "cat" / name, encoded(kind))
    write(tmp_path / "test" / "dog" / "x.png", encoded("PNG"))
    write(tmp_path / ".hidden", b"x")
    write(tmp_path / "root.png", encoded("PNG"))
    rows, rejects = read(tmp_path, split=True)
    assert rejects == []
    assert {row["format"] for row in rows} == {"PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"}
    assert [(row["path"], row["label"], row["split"]) for row in rows][:2] == [
        ("root.png", None, None),
        ("test/dog/x.png", "dog", "test"),
    ]
    assert {(row["width"], row["height"]) for row in rows} == {(40, 30)}
    assert rows[1]["image"] == (tmp_path / "test" / "dog" / "x.png").read_bytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_truncated_images_are_rejects(tmp_path, kind):
    whole = encoded(kind)
    for share in (0.1, 0.5, 0.9):
        write(tmp_path / f"{share}.{kind.lower()}", whole[: int(len(whole) * share)])
    write(tmp_path / f"whole.{kind.lower()}", whole)
    rows, rejects = read(tmp_path, format="images")
    assert [row["path"] for row in rows] == [f"whole.{kind.lower()}"]
    assert len(rejects) == 3


def test_bombs_are_rejects_without_being_unpacked(tmp_path):
    import struct
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    write(tmp_path / "bomb.png", bomb)
    write(tmp_path / "large.png", encoded("PNG", (300, 200)))
    write(tmp_path / "small.png", encoded("PNG"))
    rows, rejects = read(tmp_path, max_pixels=50_000)
    assert [row["path"] for row in rows] == ["small.png"]
    assert "pixels" in rejects[0].reason
    assert "received 300 x 200" in rejects[1].reason


def test_verify_can_be_left_out(tmp_path):
    write(tmp_path / "a.png", png(0)[:300])
    assert len(read(tmp_path)[0]) == 0
    assert len(read(tmp_path, verify=False)[0]) == 1
    with pytest.raises(ConfigError, match="no option 'sharpen'"):
        open_source(tmp_path, sharpen=True)


# --- Hugging Face -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hf():
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return datasets


def test_saved_data_sets_are_read_without_the_library(hf, tmp_path):
    (tmp_path / "one.png").write_bytes(png(1))
    features = hf.Features({"picture": hf.Image(), "label": hf.ClassLabel(names=["no", "yes"]), "n": hf.Value("int32")})
    images = [{"bytes": png(0), "path": None}, {"bytes": None, "path": str(tmp_path / "one.png")}, None]
    data = hf.Dataset.from_dict({"picture": images, "label": [1, 0, -1], "n": [1, 2, 3]}, features=features)
    data.save_to_disk(str(tmp_path / "saved"))
    script = (
        "import sys; from deepseek.data import open_source; rows = list(open_source(sys.argv[1]).rows()); "
        "print([(len(r['picture'] or b''), r['label'], r['n']) for r in rows], 'datasets' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "saved")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert printed == f"[({len(png(0))}, 'yes', 1), ({len(png(1))}, 'no', 2), (0, None, 3)] False"
    assert read(data)[0] == read(tmp_path / "saved")[0]
    shard = next((tmp_path / "saved").glob("*.arrow"))
    assert read(shard, format="huggingface")[0] == read(data)[0]


def test_missing_media_are_rejects(hf, tmp_path):
    features = hf.Features({"sound": {"bytes": hf.Value("binary"), "path": hf.Value("string")}})
    data = hf.Dataset.from_dict(
        {"sound": [{"bytes": b"abc", "path": None}, {"bytes": None, "path": "gone.wav"}]}, features
    )
    data.save_to_disk(str(tmp_path / "saved"))
    info = json.loads((tmp_path / "saved" / "dataset_info.json").read_text())
    info["features"]["sound"] = {"_type": "Audio"}
    (tmp_path / "saved" / "dataset_info.json").write_text(json.dumps(info))
    rows, rejects = read(tmp_path / "saved")
    assert rows == [{"sound": b"abc"}]
    assert [(r.line, r.raw) for r in rejects] == [(2, "gone.wav")]


def test_splits_selections_and_objects(hf, tmp_path):
    make = lambda n: hf.Dataset.from_dict({"a": list(range(n))})  # noqa: E731
    splits = hf.DatasetDict(train=make(3), test=make(2))
    rows = [{"a": a, "split": split} for split, n in (("train", 3), ("test", 2)) for a in range(n)]
    splits.save_to_disk(str(tmp_path / "saved"))
    assert read(splits)[0] == rows
    assert read(tmp_path / "saved")[0] == rows
    assert read(tmp_path / "saved", split="test")[0] == [{"a": 0}, {"a": 1}]
    with pytest.raises(DataError, match="no split 'dev'; its splits: train, test"):
        read(splits, split="dev")
    assert read(make(5).select([4, 0]))[0] == [{"a": 4}, {"a": 0}]
    assert open_source(make(5)).identity() == open_source(make(5)).identity()
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"state\.json"):
        read(tmp_path / "other", format="huggingface")


# --- SQL ----------------------------------------------------------------------------------------------------------


def test_sql_over_files_and_duckdb(tmp_path):
    import duckdb

    pq.write_table(table(10), tmp_path / "a.parquet")
    query = f"SELECT id, upper(text) AS text FROM '{tmp_path}/a.parquet' WHERE id > 7 ORDER BY id"
    assert read(query, format="sql")[0] == [{"id": 8, "text": "ROW 8"}, {"id": 9, "text": "ROW 9"}]
    with duckdb.connect(str(tmp_path / "d.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1::TINYINT AS n, 'x' AS s, [1, 2] AS l")
    assert read("FROM t;", format="sql", database=tmp_path / "d.duckdb")[0] == [{"n": 1, "s": "x", "l": [1, 2]}]
    report = ingest(query, tmp_path / "t.lance", format="sql")
    assert (report.rows, Table.open(report.table).metadata["query"]) == (2, query)
    with pytest.raises(DataError, match="failed"):
        read("SELECT nothing FROM nowhere", format="sql")
    with pytest.raises(DataError, match="there is no file"):
        read("SELECT 1", format="sql", database=tmp_path / "gone.duckdb")
    with pytest.raises(DataError, match="failed"):
        read("CREATE TABLE x (a INT)", format="sql", database=tmp_path / "d.duckdb")


def test_postgres_needs_its_extension_and_says_so():
    with pytest.raises(DataError, match="postgres"):
        read("SELECT 1", format="sql", database="postgres://localhost:1/none")


def test_sqlite_is_read_by_sqlite_and_not_written(tmp_path):
    path = tmp_path / "my data.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a, b BLOB)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, b"\0"), (2.5, None), ("text", b"x")])
    connection.close()
    rows, rejects = read("SELECT a, b, sqlite_version() AS v FROM t ORDER BY rowid", format="sql", database=path)
    assert [(row["a"], row["b"]) for row in rows] == [(1.0, b"\0"), (2.5, None)]
    assert rows[0]["v"] == sqlite3.sqlite_version
    assert [(r.line, r.reason) for r in rejects] == [(3, "column 'a': expected double, received str")]
    with pytest.raises(DataError, match="readonly"):
        read("DELETE FROM t RETURNING a", format="sql", database=path)

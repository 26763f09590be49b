"""Stored tables are cleaned exactly as tables in memory are, by every engine, and nothing is left behind."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepseek.data import CleaningConfig, Table, clean, clean_table
from deepseek.data.cleaning import groups, inputs
from deepseek.data.cleaning.staging import staging_folder
from deepseek.data.engines import LocalEngine
from deepseek.errors import DataError, TableError, UnknownNameError

SCHEMA = pa.schema(
    [("text", pa.string()), ("label", pa.string()), ("split", pa.string()), ("data", pa.binary()), ("n", pa.int64())]
)
WORDS = ["good", "Good", "bad", "film", "film!", "very", "the", "plot", "été", "很好", ":)"]
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join),
            "label": st.sampled_from(["pos", "neg", None]),
            "split": st.sampled_from(["train", "train", "test", None]),
            "data": st.none() | st.binary(max_size=6),
            "n": st.integers(0, 9),
        }
    ),
    max_size=30,
)


def rejects_of(path):
    rejects = Path(str(path).removesuffix(".lance") + ".rejects.lance")
    return Table.open(rejects).to_arrow() if rejects.exists() else None


def agree(stored, report, rejected, expected):
    assert stored.to_arrow().to_pylist() == expected.kept.to_pylist()
    assert report == expected.report
    assert ([] if rejected is None else rejected.to_pylist()) == expected.rejected.to_pylist()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from([1, 3, 7, 100]), st.sampled_from([2, 5, 1000]))
def test_a_stored_table_is_cleaned_as_one_in_memory(tmp_path_factory, rows, piece, partition):
    folder = tmp_path_factory.mktemp("tables")
    data = pa.Table.from_pylist(rows, SCHEMA)
    config = CleaningConfig(near_duplicates=0.6, shingle_chars=3)
    expected = clean(data, config, split="split")
    source = Table.create(folder / "raw.lance", data)
    with pytest.MonkeyPatch.context() as patch:
        # small pieces and partitions: the outcome must not depend on how the rows are cut
        patch.setattr(inputs, "PIECE_ROWS", piece)
        patch.setattr(groups, "PARTITION_ROWS", partition)
        stored, report = clean_table(source, folder / "clean.lance", config, split="split", engine=LocalEngine(2))
        in_pieces = clean(data, config, split="split")
    agree(stored, report, rejects_of(stored.path), expected)
    assert in_pieces.kept.equals(expected.kept)
    assert in_pieces.rejected.equals(expected.rejected)
    assert sorted(path.name for path in folder.iterdir() if "reject" not in path.name) == ["clean.lance", "raw.lance"]


def many_rows(count):
    words = ["red", "green", "blue", "tree", "house", "river", "cloud", "stone"]
    texts = [" ".join(words[(n * k) % 8] for k in (1, 3, 5, 7, 11)) + f" {n % 500} {n * n % 91}" for n in range(count)]
    return pa.table(
        {
            "text": texts,
            "label": [("x", "y")[n % 2] for n in range(count)],
            "split": [("train", "train", "test")[n % 3] for n in range(count)],
            "blob": [bytes([n % 251]) * 5000 for n in range(count)],
        }
    )


def test_engines_agree_and_blobs_are_carried(tmp_path, monkeypatch, ray_cluster):
    data = many_rows(1500)
    source = Table.create(tmp_path / "raw.lance", data)
    source.delete("text LIKE '%river%' AND label = 'y'")
    monkeypatch.setattr(inputs, "PIECE_ROWS", 200)
    expected = clean(source.to_arrow(), split="split")
    assert 0 < expected.kept.num_rows < len(source)
    for engine in ("local", "ray"):
        stored, report = clean_table(source, tmp_path / f"{engine}.lance", split="split", engine=engine)
        agree(stored, report, rejects_of(stored.path), expected)


def test_rejects_are_there_before_the_table(tmp_path, monkeypatch):
    source = Table.create(tmp_path / "raw.lance", pa.table({"text": ["a", "a", "b"], "label": ["x", "x", "y"]}))

    def full(*_args, **_more):
        raise TableError("disk full")

    monkeypatch.setattr("deepseek.data.cleaning.pipeline.write_rejects", full)
    with pytest.raises(TableError, match="disk full"):
        clean_table(source, tmp_path / "clean.lance")
    assert [path.name for path in tmp_path.iterdir()] == ["raw.lance"]


KILLED = """
import os, sys
from deepseek.data import Table, clean_table
from deepseek.data.cleaning import pipeline
folder, where = sys.argv[1:]
original = getattr(pipeline, where)
def kill(*args, **more):
    if where == "write_rejects":
        original(*args, **more)
    os._exit(9)
setattr(pipeline, where, kill)
clean_table(Table.open(folder + "/raw.lance"), folder + "/clean.lance")
"""


@pytest.mark.parametrize("where", ["write_rejects", "table_steps"])
def test_a_killed_cleaning_leaves_no_table_and_the_next_one_cleans_up(tmp_path, where):
    source = Table.create(tmp_path / "raw.lance", pa.table({"text": ["a", "a", "b"], "label": ["x", "x", "y"]}))
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), where], capture_output=True, check=False)
    assert done.returncode == 9, done.stderr
    assert (tmp_path / ".clean.lance.cleaning").exists()
    with pytest.raises(TableError):
        Table.open(tmp_path / "clean.lance")
    stored, _ = clean_table(source, tmp_path / "clean.lance")
    assert len(stored) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.lance", "clean.rejects.lance", "raw.lance"]


def test_two_cleanings_into_one_table_do_not_meet(tmp_path):
    source = Table.create(tmp_path / "raw.lance", pa.table({"text": ["a"], "label": ["x"]}))
    with staging_folder(tmp_path / "clean.lance"), pytest.raises(TableError, match="another process"):
        clean_table(source, tmp_path / "clean.lance")
    assert len(clean_table(source, tmp_path / "clean.lance")[0]) == 1


def test_memory_does_not_grow_with_the_table(tmp_path):
    def batches(count):
        for start in range(0, count, 100):
            yield pa.RecordBatch.from_pydict(
                {
                    "text": [f"row {n * 7919 % 1000003} of a table" for n in range(start, start + 100)],
                    "blob": [bytes([n % 251]) * 20_000 for n in range(start, start + 100)],
                }
            )

    source = Table.create(tmp_path / "raw.lance", batches(10_000))  # 200 MB
    script = (
        "import resource, sys; from deepseek.data import Table, clean_table, CleaningConfig\n"
        "source = Table.open(sys.argv[1])\n"
        "source.take([0])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "clean_table(source, sys.argv[2], CleaningConfig(near_duplicates=None), label=None)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, source.path, str(tmp_path / "clean.lance")],
        capture_output=True,
        check=True,
        text=True,
    )
    assert len(Table.open(tmp_path / "clean.lance")) == 10_000
    assert float(done.stdout.split()[-1]) < 150, "200 MB of blobs went through; expected them not to be held"


def test_wrong_columns_are_refused_before_anything_is_written(tmp_path):
    source = Table.create(tmp_path / "raw.lance", pa.table({"text": ["a"], "n": [1]}))
    with pytest.raises(UnknownNameError, match="label"):
        clean_table(source, tmp_path / "clean.lance")
    with pytest.raises(DataError, match="image bytes"):
        clean_table(source, tmp_path / "clean.lance", CleaningConfig(image="n"), label=None)
    with pytest.raises(DataError, match="received none"):
        clean_table(source, tmp_path / "clean.lance", text=None, label=None)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.lance"]


def test_in_an_object_store(endpoint):
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="cleaning")
    options = {**keys, "aws_endpoint": endpoint, "aws_region": "us-east-1", "allow_http": "true"}
    data = many_rows(300)
    source = Table.create("s3://cleaning/raw.lance", data, storage_options=options)
    stored, report = clean_table(source, "s3://cleaning/clean.lance", split="split", storage_options=options)
    expected = clean(data, split="split")
    rejects = Table.open("s3://cleaning/clean.rejects.lance", storage_options=options).to_arrow()
    agree(stored, report, rejects, expected)

"""Ingestion elsewhere: into an object store, on a Ray cluster, and in bounded memory."""

import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_samples import png

from deepseek.data import Table, ingest
from deepseek.data.sources import ingestion
from deepseek.data.sources.journal import Journal
from deepseek.data.table import storage

SECRET = "wJalrXUtnFEMI-hidden"


@pytest.fixture
def bucket(endpoint, monkeypatch, tmp_path):
    import boto3

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(storage, "_remembered", {})
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
    keys = {"aws_access_key_id": "AKIAEXAMPLE0000", "aws_secret_access_key": SECRET}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="ingests")
    yield client, {**keys, "aws_endpoint": endpoint}
    for entry in client.list_objects_v2(Bucket="ingests").get("Contents", []):
        client.delete_object(Bucket="ingests", Key=entry["Key"])
    client.delete_bucket(Bucket="ingests")


@pytest.fixture
def parts(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for n in range(4):
        rows = range(n * 500, (n + 1) * 500)
        blobs = pa.array([bytes([i % 251]) * 5_000 if i % 100 == 0 else b"small" for i in rows], pa.large_binary())
        pq.write_table(pa.table({"id": rows, "blob": blobs}), folder / f"{n}.parquet")
    return folder


def test_an_object_store(bucket, parts, tmp_path, monkeypatch):
    client, options = bucket
    monkeypatch.setattr(ingestion, "STEP_BYTES", 20_000)
    path = "s3://ingests/tables/t.lance"
    local = Table.open(ingest(parts, tmp_path / "local.lance").table)
    with monkeypatch.context() as patch:
        done = []
        original = Journal.record

        def record(self, step):
            original(self, step)
            done.append(step)
            if len(done) == 2:
                raise KeyboardInterrupt

        patch.setattr(Journal, "record", record)
        with pytest.raises(KeyboardInterrupt):
            ingest(parts, path, storage_options=options)
    journal = Journal(path)
    assert journal.path.is_relative_to(tmp_path / "cache")
    assert SECRET not in journal.path.read_text()
    report = ingest(parts, path, storage_options=options)
    assert (report.continued, report.version) == (True, 1)
    table = Table.open(path, storage_options=options)
    assert table.fingerprint() == local.fingerprint()
    assert not journal.folder.exists()
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="ingests")["Contents"]]
    assert all(key.startswith("tables/t.lance/") for key in keys)


def test_a_ray_cluster_gives_the_same_table(parts, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    pictures = tmp_path / "pictures"
    for n in range(10):
        path = pictures / str(n % 2) / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(n) if n != 3 else b"no image")
    started = not ray.is_initialized()
    if started:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        monkeypatch.setattr("deepseek.data.sources.file_rows.FileRows.part_units", 3)
        for source in (parts, pictures):
            reports = [ingest(source, tmp_path / f"{source.name}-{e}.lance", engine=e) for e in ("local", "ray")]
            local, cluster = (Table.open(report.table) for report in reports)
            assert cluster.fingerprint() == local.fingerprint()
            assert reports[0].reasons == reports[1].reasons
    finally:
        if started:
            ray.shutdown()
    assert reports[0].rejected == 1


MEASURE = """
import resource, sys
from deepseek import progress
from deepseek.data import ingest
from deepseek.data.sources import ingestion
ingestion.STEP_BYTES = 16 << 20
with progress.quiet():
    ingest(sys.argv[1], sys.argv[2])
    ingestion_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ingest(sys.argv[3], sys.argv[4])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - ingestion_peak)
"""


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_source(tmp_path, kind):
    def write(path, megabytes):
        if kind == "parquet":
            schema = pa.schema([("id", pa.int64()), ("blob", pa.large_binary())])
            with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
                for n in range(megabytes):
                    blobs = pa.array([os.urandom(1 << 16) for _ in range(16)], pa.large_binary())
                    writer.write_table(pa.table({"id": range(n, n + 16), "blob": blobs}, schema=schema))
            return path
        row = "%d," + "x" * 990 + "\n"
        with path.open("w") as file:
            file.write("id,text\n")
            for n in range(megabytes * 1_000):
                file.write(row % n)
        return path

    small, large = write(tmp_path / f"s.{kind}", 40), write(tmp_path / f"l.{kind}", 200)
    arguments = [small, tmp_path / "s.lance", large, tmp_path / "l.lance"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < (200 - 40) * 1_000_000 / 2

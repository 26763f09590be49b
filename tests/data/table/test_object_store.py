"""Tables in an object store: everything works as on a disk, and credentials stay out of sight."""

import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from deepseek.data import Table
from deepseek.data.table import storage
from deepseek.data.table.rejects import rejects_path, write_rejects
from deepseek.errors import ConfigError, TableError

SECRET = "wJalrXUtnFEMI-hidden"
ROWS = [{"id": n, "text": f"text {n}", "image": bytes([n]) * 6000} for n in range(40)]


@pytest.fixture
def bucket(endpoint, request, monkeypatch):
    import boto3

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(storage, "_remembered", {})
    name = f"b{abs(hash(request.node.name)) % 10**10}"
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="AKIAEXAMPLE0000",
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    ).create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def options(endpoint):
    return {"aws_endpoint": endpoint, "aws_access_key_id": "AKIAEXAMPLE0000", "aws_secret_access_key": SECRET}


def test_a_table_lives_in_a_bucket(bucket, options):
    path = f"{bucket}/folder/t.lance"
    table = Table.create(path, ROWS, metadata={"source": "me"}, storage_options=options)
    table.tag("first")
    table.append([{"id": 40, "text": "new"}])
    report = table.upsert([{"id": 0, "text": "changed"}, {"id": 99, "text": "added"}], on="id")
    assert (report.inserted, report.updated) == (1, 1)
    assert table.take([3, 1])["image"].to_pylist() == [ROWS[4]["image"], ROWS[2]["image"]]
    with table.open_blob("image", 5) as file:
        file.seek(5990)
        assert file.read(100) == ROWS[6]["image"][:10]
    table.add_columns(_lengths, schema=pa.schema([("n", pa.int64())]), read=["text"])
    assert table.to_arrow(["n"], where="id = 0")["n"].to_pylist() == [len("changed")]
    before = table.fingerprint()
    assert table.compact().fragments_after == 1
    assert table.fingerprint() == before
    assert list(Table.open(path, "first").rows()) == ROWS
    assert [version.version for version in table.versions()] == list(range(1, table.version + 1))
    assert table.search(text="added", limit=1)["id"].to_pylist() == [99]
    with pytest.raises(TableError, match="there is a table"):
        Table.create(path, ROWS)


def _lengths(batch):
    return pa.array([len(text) for text in batch["text"].to_pylist()])


def test_options_given_once_serve_the_bucket(bucket, options):
    path = f"{bucket}/t.lance"
    Table.create(path, ROWS, storage_options=options)
    assert write_rejects(path, [{"reason": "broken"}], pa.schema([("reason", pa.string())]), count=1)
    assert Table.open(rejects_path(path)).to_arrow().to_pylist() == [{"reason": "broken"}]


def test_options_come_from_the_environment(bucket, endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE0000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    path = f"{bucket}/t.lance"
    Table.create(path, ROWS)
    assert len(Table.open(path)) == 40
    with pytest.raises(TableError, match="there is no table at"):
        Table.open(f"{bucket}/other.lance")


def test_credentials_are_never_shown_or_stored(bucket, options, endpoint):
    import boto3

    path = f"{bucket}/t.lance"
    table = Table.create(path, ROWS, storage_options=options)
    table.add_columns(_lengths, schema=pa.schema([("n", pa.int64())]), read=["text"])
    shown = repr(table) + str(table.metadata)
    unreachable = dict(options, aws_endpoint="http://127.0.0.1:9", client_max_retries="0", client_retry_timeout="1")
    with pytest.raises(TableError) as caught:
        Table.open(f"{bucket}/other.lance", storage_options=unreachable)
    shown += str(caught.value) + str(caught.value.__cause__)
    assert SECRET not in shown
    assert "AKIAEXAMPLE0000" not in shown
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="AKIAEXAMPLE0000",
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    name = bucket.removeprefix("s3://")
    for entry in client.list_objects_v2(Bucket=name)["Contents"]:
        body = client.get_object(Bucket=name, Key=entry["Key"])["Body"].read()
        assert SECRET.encode() not in body
        assert b"AKIAEXAMPLE0000" not in body


def test_credentials_in_an_address_are_refused():
    with pytest.raises(TableError, match="storage_options") as caught:
        Table.open("s3://key:hidden@bucket/t.lance")
    assert "hidden" not in str(caught.value)


def test_options_for_a_local_path_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="local path"):
        Table.open(tmp_path / "t.lance", storage_options={"aws_region": "x"})


def test_an_error_before_the_commit_makes_no_table(bucket, options):
    path = f"{bucket}/t.lance"

    def refuse():
        raise KeyError("stop")

    with pytest.raises(KeyError):
        Table.create(path, ROWS, before_commit=refuse, storage_options=options)
    with pytest.raises(TableError, match="there is no table"):
        Table.open(path)
    assert len(Table.create(path, ROWS)) == 40


APPEND = """
import itertools, sys
from deepseek.data import Table
table = Table.open(sys.argv[1])
print("ready", flush=True)
for number in itertools.count():
    table.append([{"id": number, "text": "x"}] * 40)
"""


def test_a_killed_writer_leaves_whole_versions(bucket, options, endpoint):
    path = f"{bucket}/t.lance"
    table = Table.create(path, ROWS, storage_options=options)
    environment = os.environ | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE0000",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    process = subprocess.Popen([sys.executable, "-c", APPEND, path], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    table.refresh()
    assert len(table) == 40 * table.version
    assert table.to_arrow(["id"]).num_rows == len(table)
    assert len(table.append(ROWS)) == 40 * table.version

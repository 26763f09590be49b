"""Definitions in an object store: a real S3 protocol on the loopback, served by moto."""

import datetime as dt

import pytest

from deepseek.data.features import FeatureStore, FeatureView
from deepseek.data.table import Table
from deepseek.errors import ConfigError, UnknownNameError


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """The address of an empty bucket; credentials and endpoint are in the environment, as a user would have them."""
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="lake")
    return "s3://lake"


def test_a_store_in_a_bucket(bucket):
    start = dt.datetime(2026, 1, 1)
    table = Table.create(f"{bucket}/stats.lance", [{"user": 1, "at": start, "score": 0.5}])
    store = FeatureStore(f"{bucket}/project/features/")
    view = FeatureView(name="stats", source=table, entities=["user"], event_time="at")
    assert store.views() == []
    assert store.register(view) == view
    assert store.register(view) == view
    with pytest.raises(ConfigError, match="ttl"):
        store.register(view.model_copy(update={"ttl": dt.timedelta(days=1)}))
    again = FeatureStore(f"{bucket}/project/features")
    assert again.view("stats") == view
    rows = [{"user": 1, "event_time": start}, {"user": 1, "event_time": start - dt.timedelta(microseconds=1)}]
    assert again.history(rows, ["stats"])["score"].to_pylist() == [0.5, None]
    again.delete("stats")
    with pytest.raises(UnknownNameError):
        store.view("stats")

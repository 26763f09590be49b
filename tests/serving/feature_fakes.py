"""A small feature store with what features can be: several kinds of keys and values, a time to live, a transformation."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.features import FeatureStore, FeatureView, OnDemand
from deepseek.data.table import Table

FAILS = -12345.0
NOW = dt.datetime.now(dt.UTC).replace(microsecond=123456)
HOUR = dt.timedelta(hours=1)
CUSTOMERS = pa.table(
    {
        "customer": pa.array([1, 2, 3], pa.int64()),
        "at": pa.array([NOW - HOUR, NOW - HOUR, NOW - 30 * HOUR], pa.timestamp("us", tz="UTC")),
        "city": ["Paris", None, "Rome"],
        "score": pa.array([0.5, float("nan"), 2.0], pa.float64()),
        "visits": pa.array([3, 2**40, None], pa.int64()),
        "since": pa.array([dt.date(2020, 2, 29)] * 3),
        "seen": pa.array([NOW - 2 * HOUR] * 3, pa.timestamp("us", tz="UTC")),
        "balance": pa.array([Decimal("1.50"), Decimal("-3.25"), None], pa.decimal128(10, 2)),
        "vector": pa.array([[0.25, 0.5], [1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        "tags": pa.array([["a", "b"], [], None], pa.list_(pa.string())),
        "photo": pa.array([b"\x00\xff", b"", None], pa.binary()),
        "vip": pa.array([True, False, None], pa.bool_()),
        "count": pa.array([2**64 - 1, 0, 1], pa.uint64()),
        "stay": pa.array([dt.timedelta(minutes=90)] * 3, pa.duration("us")),
        "home": pa.array([{"x": 1, "y": "a"}] * 3, pa.struct([("x", pa.int32()), ("y", pa.string())])),
    }
)
DAYS = pa.table(
    {
        "shop": ["a", "b"],
        "day": pa.array([dt.date(2026, 1, 1), dt.date(2026, 1, 2)]),
        "code": pa.array([b"\x01", b"\x02"], pa.binary()),
        "at": pa.array([NOW - HOUR] * 2, pa.timestamp("us", tz="UTC")),
        "sales": pa.array([10.0, 20.0]),
    }
)


def share(columns: dict[str, pa.Array]) -> pa.Array:
    """A transformation, which fails on one limit."""
    if FAILS in columns["limit"].to_pylist():
        raise RuntimeError("a secret of the implementation")
    return pc.divide(columns["sales"], columns["limit"])


def feature_store(folder: Path) -> FeatureStore:
    """Views over both tables, materialised; one more that is not."""
    store = FeatureStore(folder / "features")
    customers = Table.create(folder / "customers.lance", CUSTOMERS)
    days = Table.create(folder / "days.lance", DAYS)
    store.register(
        FeatureView(
            name="customers",
            source=customers,
            entities=["customer"],
            event_time="at",
            ttl=dt.timedelta(hours=24),
            description="People who buy",
        )
    )
    store.register(
        FeatureView(
            name="sales",
            source=days,
            entities=["shop", "day", "code"],
            event_time="at",
            transformations=[
                OnDemand(function=share, inputs=["sales"], request={"limit": "float64"}, outputs={"share": "float64"})
            ],
        )
    )
    store.register(
        FeatureView(name="visits", source=customers, entities=["customer"], event_time="at", features=["visits"])
    )
    store.materialize("customers")
    store.materialize("sales")
    return store

"""Feast's side, run in Feast's environment: a local repository over the same Parquet files.

Settings as its documentation recommends for speed: one feature view, registry cached for ever, a TTL on the view,
entity keys in the newest format, telemetry off; for reads on line also its faster ways, a feature service and
pre-computed vectors. DuckDB (its offline store for larger data) is told the memory cap and a folder to spill to.
"""

from __future__ import annotations

import os

os.environ["FEAST_USAGE"] = os.environ["FEAST_TELEMETRY"] = "False"

import datetime as dt
import time
from pathlib import Path
from typing import Any

from benchmarks.worker import Clock, serve

VIEW = "driver_stats"
FEATURES = ("conv_rate", "acc_rate", "rating", "avg_daily_trips", "late_minutes")
state: dict[str, Any] = {}


def open_store(
    clock: Clock, *, folder: str, features: str, offline: str, online: dict[str, Any], ttl_s: float, memory_mb: int
) -> None:
    """Make and apply a repository; ``offline`` is ``dask`` or ``duckdb``, ``online`` the store's configuration."""
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.data_format import ParquetFormat
    from feast.types import Float64, Int64

    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    config = RepoConfig(
        project="bench",
        provider="local",
        registry={"path": str(home / "registry.db"), "cache_ttl_seconds": 0},
        offline_store={"type": offline},
        online_store=online,
        entity_key_serialization_version=3,
        repo_path=home,
    )
    if offline == "duckdb":
        import ibis

        backend = ibis.get_backend()
        backend.raw_sql(f"SET memory_limit='{memory_mb}MB'; SET temp_directory='{home / 'spill'}'; SET threads=2")
        backend.raw_sql("SET TimeZone='UTC'")
    source = FileSource(
        path=features,
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    types = [Float64, Float64, Float64, Int64, Int64]
    view = FeatureView(
        name=VIEW,
        entities=[driver],
        ttl=dt.timedelta(seconds=ttl_s) if ttl_s else None,
        schema=[Field(name=name, dtype=kind) for name, kind in zip(FEATURES, types, strict=True)],
        source=source,
        online=True,
    )
    plain = FeatureService(name="plain", features=[view])
    fast = FeatureService(name="precomputed", features=[view], precompute_online=True)
    store = FeatureStore(config=config)
    store.apply([driver, view, plain, fast])
    state["store"] = store
    state["references"] = [f"{VIEW}:{name}" for name in FEATURES]


def load_requests(clock: Clock, *, requests: str) -> int:
    """Hold the entity rows in memory, as a pandas frame, which Feast asks for."""
    import pandas as pd

    state["requests"] = pd.read_parquet(requests)
    return len(state["requests"])


def history(clock: Clock, *, output: str | None, by_created: bool) -> int:
    """The point-in-time join of the entity rows; the result is written, untimed, when ``output`` is given."""
    frame = state["requests"].copy()
    with clock:
        job = state["store"].get_historical_features(
            entity_df=frame, features=state["references"], filter_by_created_timestamp=by_created
        )
        result = job.to_df()
    if output:
        result[["request_id", *FEATURES]].sort_values("request_id").to_parquet(output, index=False)
    return len(result)


def materialize(clock: Clock, *, until: str) -> None:
    """Fill the online store with the newest row of each key."""
    end = dt.datetime.fromisoformat(until)
    with clock:
        state["store"].materialize(start_date=end - dt.timedelta(days=60), end_date=end, feature_views=[VIEW])


def open_services(clock: Clock) -> None:
    """Open the services that reads go through; materialising has filled the pre-computed vectors, on Redis."""
    store = state["store"]
    state["services"] = {name: store.get_feature_service(name) for name in ("plain", "precomputed")}


def read(clock: Clock, *, way: str, keys: list[list[int]], warm_up: int) -> list[float]:
    """Read each list of keys once; the seconds that each read took, after ``warm_up`` reads that do not count.

    ``way`` is ``features`` (a list of references), ``plain`` or ``precomputed`` (a feature service).
    """
    store, options = state["store"], _way(way)
    rows = [[{"driver_id": key} for key in asked] for asked in keys]
    for asked in rows[:warm_up]:
        store.get_online_features(entity_rows=asked, **options).to_dict()
    seconds = []
    for asked in rows:
        started = time.perf_counter()
        store.get_online_features(entity_rows=asked, **options).to_dict()
        seconds.append(time.perf_counter() - started)
    clock.seconds = sum(seconds)
    return seconds


def values(clock: Clock, *, way: str, keys: list[int]) -> list[list[Any]]:
    """The values of each key, for the check that both sides answer alike."""
    rows = [{"driver_id": key} for key in keys]
    answer = state["store"].get_online_features(entity_rows=rows, **_way(way)).to_dict()
    named = {name.removeprefix(f"{VIEW}__"): column for name, column in answer.items()}
    return [[named[name][row] for name in FEATURES] for row in range(len(keys))]


def _way(way: str) -> dict[str, Any]:
    """What is asked for; pre-computed vectors are found under full names only."""
    features = state["references"] if way == "features" else state["services"][way]
    return {"features": features, "full_feature_names": way == "precomputed"}


if __name__ == "__main__":
    serve(open_store, load_requests, history, materialize, open_services, read, values)

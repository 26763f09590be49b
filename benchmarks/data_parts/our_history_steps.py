"""Our side of the point-in-time benchmark."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.worker import Clock, serve
from deepseek.data import ingest
from deepseek.data.features import FeatureStore, FeatureView

VIEW = "driver_stats"
FEATURES = ("conv_rate", "acc_rate", "rating", "avg_daily_trips", "late_minutes")
state: dict[str, Any] = {}


def load_features(clock: Clock, *, folder: str, features: str, ttl_s: float) -> None:
    """Ingest the feature table and register two views of it: with and without the time when a row became known."""
    table = Path(folder) / "features"
    with clock:
        ingest(features, table)
    store = FeatureStore(Path(folder) / "store")
    for name, created in ((VIEW, "created"), (f"{VIEW}_by_event", None)):
        store.register(
            FeatureView(
                name=name,
                source=table,
                entities=("driver_id",),
                event_time="event_timestamp",
                created_time=created,
                ttl=dt.timedelta(seconds=ttl_s),
                features=FEATURES,
            )
        )


def open_store(clock: Clock, *, folder: str) -> None:
    """Open the feature store."""
    state["store"] = FeatureStore(Path(folder) / "store")


def load_requests(clock: Clock, *, requests: str) -> int:
    """Hold the entity rows in memory, as an Arrow table."""
    state["requests"] = pq.read_table(requests)
    return state["requests"].num_rows


def history(clock: Clock, *, output: str | None, by_created: bool) -> int:
    """The point-in-time join of the entity rows; the result is written, untimed, when ``output`` is given."""
    view = VIEW if by_created else f"{VIEW}_by_event"
    with clock:
        result = state["store"].history(state["requests"], [view], time="event_timestamp")
    if output:
        names = [name.removeprefix(f"{view}__") for name in result.column_names]
        pq.write_table(result.rename_columns(names).select(["request_id", *FEATURES]).sort_by("request_id"), output)
    return result.num_rows


if __name__ == "__main__":
    serve(load_features, open_store, load_requests, history)

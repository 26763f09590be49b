"""Our side of the reads on line."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from benchmarks.worker import Clock, serve
from deepseek.data import Table, ingest
from deepseek.data.features import FeatureStore, FeatureView

VIEW = "driver_stats"
FEATURES = ("conv_rate", "acc_rate", "rating", "avg_daily_trips", "late_minutes")
state: dict[str, Any] = {}


def fill(clock: Clock, *, folder: str, features: str, target: str, until: str) -> None:
    """Ingest the features, register the view, and materialise it into the online store at ``target``."""
    table = Path(folder) / "features"
    ingest(features, table)
    store = FeatureStore(Path(folder) / "store", online=target)
    store.register(
        FeatureView(
            name=VIEW, source=table, entities=("driver_id",), event_time="event_timestamp", created_time="created",
            features=FEATURES,
        )
    )  # fmt: skip
    with clock:
        store.materialize(VIEW, until=dt.datetime.fromisoformat(until))
    state["store"], state["table"] = store, table


def known_keys(clock: Clock) -> list[int]:
    """The drivers that have a row."""
    return sorted(pc.unique(Table.open(state["table"]).to_arrow(["driver_id"]).column(0)).to_pylist())


def read(clock: Clock, *, keys: list[list[int]], warm_up: int) -> list[float]:
    """Read each list of keys once; the seconds that each read took, after ``warm_up`` reads that do not count."""
    store = state["store"]
    rows = [[{"driver_id": key} for key in asked] for asked in keys]
    for asked in rows[:warm_up]:
        store.online(VIEW, asked)
    seconds = []
    for asked in rows:
        started = time.perf_counter()
        store.online(VIEW, asked)
        seconds.append(time.perf_counter() - started)
    clock.seconds = sum(seconds)
    return seconds


def values(clock: Clock, *, keys: list[int]) -> list[list[Any]]:
    """The values of each key."""
    answers = state["store"].online(VIEW, [{"driver_id": key} for key in keys])
    plain = [{name.removeprefix(f"{VIEW}__"): value for name, value in answer.items()} for answer in answers]
    return [[answer[name] for name in FEATURES] for answer in plain]


if __name__ == "__main__":
    serve(fill, known_keys, read, values)

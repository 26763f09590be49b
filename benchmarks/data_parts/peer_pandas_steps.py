"""pandas' side of the point-in-time benchmark: ``merge_asof``, which wants both sides sorted by time."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks.worker import Clock, serve

FEATURES = ["conv_rate", "acc_rate", "rating", "avg_daily_trips", "late_minutes"]
state: dict[str, Any] = {}


def load_requests(clock: Clock, *, requests: str) -> int:
    """Hold the entity rows in memory, as a pandas frame."""
    state["requests"] = pd.read_parquet(requests)
    return len(state["requests"])


def history(clock: Clock, *, features: str, ttl_s: float, output: str | None) -> dict[str, float]:
    """Read the features, sort both sides, join; returns the seconds of each."""
    read, sort, join = Clock(), Clock(), Clock()
    with clock:
        with read:
            right = pd.read_parquet(features, columns=["driver_id", "event_timestamp", *FEATURES])
        with sort:
            right = right.sort_values("event_timestamp", ignore_index=True)
            left = state["requests"].sort_values("event_timestamp", ignore_index=True)
        with join:
            result = pd.merge_asof(
                left, right, on="event_timestamp", by="driver_id", tolerance=pd.Timedelta(seconds=ttl_s)
            )
        result = result.sort_values("request_id", ignore_index=True)  # the order that was asked in
    if output:
        result[["request_id", *FEATURES]].to_parquet(output, index=False)
    return {"read": read.seconds, "sort": sort.seconds, "join": join.seconds}


if __name__ == "__main__":
    serve(load_requests, history)

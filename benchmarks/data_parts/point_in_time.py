"""Claims: the point-in-time join is 5 times faster than Feast's and grows linearly with the table.

A table of driver statistics (100,000 drivers, unequally popular; 5 features; rows in no order, some known late) is
joined to a tenth as many requests, TTL 7 days. Feast reads it as Parquet through both of its local offline stores, with
its filter on the time when a row became known, which is what ours always does; pandas knows one time only, so it is
compared with our view that has no such time. Every contestant reads the features from its own files, and the requests
from memory, as the frame or table that it asks for. All answers are compared, value by value, before times count.

Feast's Dask store leaves out requests that have candidates but no valid one; those must be the ones that we answer with
nulls. Both of its stores form all pairs of a driver's rows and requests before they pick one, so they need far more
memory and time as tables grow: each is measured at the largest of the sizes that it can do under the memory cap and
time limit, and the figure compares with ours at that size.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import peers
from benchmarks.data_parts import generate
from benchmarks.data_parts.context import Context
from benchmarks.harness import MEMORY_CAP, Figure, Measured, StepFailed, Worker, alternate, say, times_faster

OURS = "benchmarks.data_parts.our_history_steps"
FEAST = "benchmarks.data_parts.peer_feast_steps"
PANDAS = "benchmarks.data_parts.peer_pandas_steps"
TTL_S = 7 * 86_400.0
SIZES = (100_000, 1_000_000, 3_000_000, 10_000_000)
GROWTH = (100_000, 1_000_000, 10_000_000)
KEYS = 100_000
FEAST_LIMIT_S = 240.0
FEAST_SPILL_MB = 6_000
STORES = {"duckdb": "Feast, DuckDB offline store", "dask": "Feast, file source with the Dask offline store"}


def run(context: Context) -> dict[str, Figure]:
    """All figures of the join."""
    sizes = (10_000, 40_000) if context.quick else SIZES
    growth = sizes if context.quick else GROWTH
    keys = context.pick(KEYS, 2_000)
    folder = context.workspace("point_in_time")
    feast: dict[str, tuple[int, Measured, Measured]] = {}
    stopped: dict[str, str] = {}
    with ExitStack() as stack:
        contests = {}
        for size in sizes:
            say(f"point in time: {size:,} feature rows, {size // 10:,} requests: writing")
            contests[size] = stack.enter_context(_Contest(folder / str(size), size, keys, context.seed))
        say("point in time: ours at all sizes in turn")
        turns = {
            f"{size:,} rows": partial(contests[size].ours.run, "history", by_created=True, output=None)
            for size in growth
        }
        alternate(turns, 1)  # without counting: reads the tables into the page cache
        grown = alternate(turns, context.pick(7, 2))
        say(f"point in time: against pandas at {sizes[-1]:,} rows")
        ours, pandas = contests[sizes[-1]].against_pandas(context.pick(3, 2))
        for size, contest in contests.items():
            for store in [store for store in STORES if store not in stopped]:
                say(f"point in time: against {STORES[store]} at {size:,} rows")
                try:
                    feast[store] = (size, *contest.against_feast(store, context.pick(3 if size < 10**6 else 1, 1)))
                except StepFailed as failure:
                    stopped[store] = f"{size:,} rows: {str(failure)[:160]}"
                    say(f"  it cannot do {stopped[store]}")
    seconds = dict(zip(growth, grown.values(), strict=True))
    return {
        **_feast_figures(feast, stopped),
        **_pandas_figures(ours, pandas, sizes[-1]),
        **_growth_figures({size: measured.median for size, measured in seconds.items()}),
    }


class _Contest:
    """The data of one size, and the processes that join it."""

    def __init__(self, folder: Path, size: int, keys: int, seed: int) -> None:
        folder.mkdir()
        self.folder = folder
        self.features, self.requests = generate.driver_stats(folder, size, size // 10, keys, seed)
        self.ours = Worker(OURS, memory_cap=MEMORY_CAP)
        self.ours.run("load_features", folder=str(folder), features=str(self.features), ttl_s=TTL_S)
        self.ours.run("open_store", folder=str(folder))
        self.ours.run("load_requests", requests=str(self.requests))

    def __enter__(self) -> _Contest:
        return self

    def __exit__(self, *_: object) -> None:
        self.ours.close()
        for path in (self.features, self.requests):
            path.unlink()

    def against_pandas(self, rounds: int) -> tuple[Measured, Measured]:
        """Ours and pandas', after their answers were compared."""
        with Worker(PANDAS, memory_cap=MEMORY_CAP) as pandas:
            pandas.run("load_requests", requests=str(self.requests))
            theirs = partial(pandas.run, "history", features=str(self.features), ttl_s=TTL_S)
            measured = self._measure("pandas", theirs, rounds, by_created=False)
            return measured["ours"], measured["pandas"]

    def against_feast(self, store: str, rounds: int) -> tuple[Measured, Measured]:
        """Ours and Feast's; :class:`StepFailed` when Feast cannot do this size."""
        home = self.folder / store
        with Worker(FEAST, python=peers.environment("feast", peers.FEAST), memory_cap=MEMORY_CAP) as feast:
            online = {"type": "sqlite", "path": str(home / "online.db")}
            feast.run(
                "open_store", folder=str(home), features=str(self.features), offline=store, online=online, ttl_s=TTL_S,
                memory_mb=FEAST_SPILL_MB,
            )  # fmt: skip
            feast.run("load_requests", requests=str(self.requests))
            theirs = partial(feast.run, "history", by_created=True, limit_s=FEAST_LIMIT_S)
            measured = self._measure("Feast", theirs, rounds, by_created=True)
            return measured["ours"], measured["Feast"]

    def _measure(
        self, peer: str, theirs: Callable[..., Mapping[str, Any]], rounds: int, *, by_created: bool
    ) -> dict[str, Measured]:
        outputs = {"ours": self.folder / "ours.parquet", peer: self.folder / "theirs.parquet"}
        turns = {"ours": partial(self.ours.run, "history", by_created=by_created), peer: theirs}
        first = {name: turn(output=str(outputs[name])) for name, turn in turns.items()}
        _require_equal(outputs["ours"], outputs[peer])
        if rounds == 1:  # a peer that takes minutes: its first run counts
            turns[peer] = lambda **_: first[peer]
            measured = alternate({"ours": partial(turns["ours"], output=None)}, 3)
            return measured | alternate({peer: partial(turns[peer], output=None)}, 1)
        return alternate({name: partial(turn, output=None) for name, turn in turns.items()}, rounds)


def _require_equal(ours: Path, theirs: Path) -> None:
    """Compare all values; requests that the peer left out must be null in ours."""
    left, right = pq.read_table(ours), pq.read_table(theirs)
    asked = left.column("request_id").to_numpy()
    assert np.array_equal(asked, np.arange(len(asked))), "ours lost, repeated or reordered requests"
    answered = right.column("request_id").to_numpy()
    given = np.zeros(len(asked), bool)
    given[answered] = True
    for name in generate.FEATURES:
        mine = left.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
        other = right.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
        assert np.array_equal(mine[answered], other, equal_nan=True), f"{name} differs from the peer's"
        assert np.isnan(mine[~given]).all(), f"{name}: the peer left out requests that ours answers"


def _feast_figures(feast: dict[str, tuple[int, Measured, Measured]], stopped: dict[str, str]) -> dict[str, Figure]:
    figures = {}
    for store, (size, ours, theirs) in feast.items():
        limits = f"memory capped at {MEMORY_CAP >> 30} GiB, {FEAST_LIMIT_S:.0f} s"
        why = f"; it could not do {stopped[store]} ({limits})" if store in stopped else ""
        note = f"{size:,} feature rows, {size // 10:,} requests, answers equal{why}."
        figures[f"pit_join_vs_feast_{store}"] = times_faster(ours, theirs, STORES[store], note)
    if figures:  # at the largest size that any of its stores can do, against the faster store there
        size = max(entry[0] for entry in feast.values())
        best = min((s for s in feast if feast[s][0] == size), key=lambda store: feast[store][2].median)
        figures["pit_join_vs_feast"] = figures[f"pit_join_vs_feast_{best}"]
    return figures


def _pandas_figures(ours: Measured, pandas: Measured, size: int) -> dict[str, Figure]:
    parts = {name: statistics.median(value[name] for value in pandas.values) for name in ("read", "sort", "join")}
    apart = f"pandas reads {parts['read']:.3g} s, sorts {parts['sort']:.3g} s, joins {parts['join']:.3g} s"
    setting = f"{size:,} feature rows, {size // 10:,} requests, answers equal"
    return {
        "pit_join_vs_pandas": times_faster(
            ours, pandas, "pandas merge_asof, reading and sorting included", f"{setting}; {apart}."
        ),
        "pit_join_vs_pandas_without_sort": Figure(
            value=(parts["read"] + parts["join"]) / ours.median,
            unit="times faster",
            baseline=1.0,
            baseline_name="pandas merge_asof, had the data been sorted already",
            note=f"bigger is better. {setting}; ours takes them unsorted. {apart}",
        ),
        "pit_rows_per_s": Figure(
            value=size / ours.median, unit="feature rows/s", note=f"ours, bigger is better. {setting}"
        ),
        "pit_peak_memory_mb": Figure(
            value=ours.peak_mb,
            unit="MB",
            baseline=pandas.peak_mb,
            baseline_name="pandas merge_asof",
            note=f"smaller is better. {setting}; the whole process",
        ),
    }


def _growth_figures(seconds: dict[int, float]) -> dict[str, Figure]:
    logs = np.log(list(seconds.items()))
    (small, before), (large, after) = list(seconds.items())[-2:]
    last = math.log(after / before) / math.log(large / small)
    each = ", ".join(f"{size:,} rows {spent:.3g} s" for size, spent in seconds.items())
    note = f"smaller is better; a tenth as many requests as rows; sizes measured in turn. {each}"
    linear: dict[str, Any] = {"unit": "exponent of time in rows", "baseline": 1.0, "baseline_name": "linear"}
    return {
        "pit_growth_exponent": Figure(value=float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]), note=note, **linear),
        "pit_growth_exponent_last_step": Figure(value=last, note=f"from {small:,} to {large:,} rows", **linear),
    }

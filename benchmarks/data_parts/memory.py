"""Claim: memory is flat in the table's size.

Each operation runs in a fresh process on a table and on one ten times as long, and the peaks are compared: the whole
resident memory of the process, interpreter and libraries included (nothing is subtracted; what the process held before
it began is given beside it). What an operation must hold stays the same: as many requests, as many keys. The cleaner
is the exception that the figure shows: its near-duplicate index grows with the rows that it keeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data_parts import generate
from benchmarks.data_parts.context import Context
from benchmarks.harness import Figure, Worker, say

OURS = "benchmarks.data_parts.our_memory_steps"


@dataclass(frozen=True)
class _Input:
    """One size of everything: its folder, and what lies there."""

    folder: Path
    features: Path
    requests: Path


def run(context: Context) -> dict[str, Figure]:
    """The peak of each operation at ten times the rows over that at once the rows."""
    rows, texts = context.pick(2_000_000, 10_000), context.pick(20_000, 1_000)
    folder = context.workspace("memory")
    inputs = []
    for times in (1, 10):
        home = folder / str(times)
        home.mkdir()
        say(f"memory: {rows * times:,} feature rows, {texts * times:,} texts")
        features, requests = generate.driver_stats(home, rows * times, 20_000, context.pick(20_000, 500), context.seed)
        content, _ = generate.short_texts(texts * times, context.seed)
        (home / "texts.json").write_text(json.dumps(content), encoding="utf-8")
        inputs.append(_Input(home, features, requests))
    figures: dict[str, Figure] = {}
    for name, arguments in OPERATIONS.items():
        (once, base), (tenfold, _) = (_peak(name, given, arguments(given)) for given in inputs)
        say(f"  {name}: {once:,.0f} MB, at ten times the rows {tenfold:,.0f} MB, before it began {base:,.0f} MB")
        size = f"{texts:,} texts" if name == "clean" else f"{rows:,} rows"
        figures[f"peak_memory_growth_10x_{name}"] = Figure(
            value=tenfold / once,
            unit="times the memory",
            baseline=1.0,
            baseline_name="flat",
            note=f"smaller is better. {size}: {once:,.0f} MB, ten times as many: {tenfold:,.0f} MB, of which the "
            f"process held {base:,.0f} MB before it began",
        )
    worst = max(figures, key=lambda key: figures[key].value)
    each = ", ".join(f"{key.removeprefix('peak_memory_growth_10x_')} {f.value:.2f}" for key, f in figures.items())
    figures["peak_memory_growth_10x"] = Figure(
        value=figures[worst].value,
        unit="times the memory",
        baseline=1.0,
        baseline_name="flat",
        note=f"smaller is better; the worst of all operations: {each}. {figures[worst].note}",
    )
    return figures


OPERATIONS: dict[str, Callable[[_Input], dict[str, Any]]] = {
    "ingest": lambda given: {"source": str(given.features), "target": str(given.folder / "features")},
    "scan": lambda given: {"table": str(given.folder / "features")},
    "profile": lambda given: {"table": str(given.folder / "features")},
    "history": lambda given: {"folder": str(given.folder), "requests": str(given.requests)},
    "materialize": lambda given: {"folder": str(given.folder), "target": str(given.folder / "online.store")},
    "clean": lambda given: {"table": str(given.folder / "texts"), "target": str(given.folder / "clean")},
}


def _peak(name: str, given: _Input, arguments: dict[str, Any]) -> tuple[float, float]:
    """Peak of one operation, and what its process held before it, in MB."""
    prepare = {"history": "register", "materialize": "register", "clean": "load_texts"}.get(name)
    if prepare:
        with Worker(OURS) as other:
            other.run(prepare, folder=str(given.folder))
    with Worker(OURS) as worker:
        base = worker.run("idle")["peak_mb"]
        return worker.run(name, **arguments)["peak_mb"], base

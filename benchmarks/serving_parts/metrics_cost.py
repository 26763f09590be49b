"""Claim: metrics cost less than 3% of throughput. Ours with everything on against the same without metrics, in turn.

A shared machine changes its speed by more than that within seconds, and of two processes that run the same code one may
be faster for as long as it lives. So the servers run at the same time, loads last a second, those of one turn follow
one another, and all are started again and again. Beside it, as a supporting figure, what keys, limits and metrics cost
together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.harness import Figure, in_turn, say
from benchmarks.serving_parts.contest import Rows
from benchmarks.serving_parts.contestants import GRPC_UNARY, REST_JSON, Contestant, ours
from benchmarks.serving_parts.context import Context
from benchmarks.serving_parts.load import Load, Row
from benchmarks.serving_parts.measuring import measure, started
from benchmarks.serving_parts.models import IDENTITY

ON, NO_METRICS, BARE = "everything on", "without metrics", "without keys, limits and metrics"
PROMISED = 0.03
KINDS = (REST_JSON, GRPC_UNARY)
TURNS = 3
"""Short loads on each server after a start; the median of them counts."""
STARTS = 2
"""Starts for each round that the context asks for."""
LOAD_S = 1.0


def run(context: Context) -> dict[str, Figure]:
    """Costs in the protocol in which they are the greater share."""
    contestants = [
        ours(ON, loads=KINDS),
        ours(NO_METRICS, loads=KINDS, metrics=False),
        ours(BARE, loads=KINDS, metrics=False, keys=False),
    ]
    short = dataclasses.replace(context, seconds=LOAD_S, warm_up=min(context.warm_up, LOAD_S))
    loads: dict[str, dict[str, list[Load]]] = {each.name: {kind: [] for kind in KINDS} for each in contestants}
    for start in range(1 if context.quick else STARTS * context.rounds):
        for name, found in _start(short, contestants, start).items():
            for kind, turns in found.items():
                loads[name][kind].append(sorted(turns, key=lambda load: load.rate)[len(turns) // 2])
    rows = {name: {kind: Row(tuple(each)) for kind, each in found.items()} for name, found in loads.items()}
    for name, found in rows.items():
        for kind, row in found.items():
            say(f"  {name}, {kind}: {row}")
    return figures(rows)


def _start(context: Context, contestants: Sequence[Contestant], start: int) -> dict[str, dict[str, list[Load]]]:
    """Start all, and load them in turn."""
    loads: dict[str, dict[str, list[Load]]] = {each.name: {kind: [] for kind in KINDS} for each in contestants}
    with contextlib.ExitStack() as running:
        targets = {
            each.name: running.enter_context(
                started(each, each.settings[""], IDENTITY, context.workspace(f"metrics-{at}"))
            )
            for at, each in enumerate(contestants)
        }
        for turn in range(TURNS):
            for name in in_turn(list(targets), start + turn):
                for kind in KINDS:
                    loads[name][kind].append(measure(context, targets[name], kind))
    return loads


def figures(rows: Rows) -> dict[str, Figure]:
    """From the rows of the three."""
    return {
        "metrics_cost": _cost(rows[ON], rows[NO_METRICS], NO_METRICS, PROMISED),
        "keys_and_metrics_cost": _cost(rows[ON], rows[BARE], BARE, None),
    }


def _cost(on: Mapping[str, Row], without: Mapping[str, Row], name: str, promised: float | None) -> Figure:
    costs = {kind: _by_rounds(on[kind], without[kind]) for kind in KINDS}
    worst = max(costs, key=lambda kind: statistics.median(costs[kind]))
    each = "; ".join(
        f"{kind} {statistics.median(found):.1%} ({min(found):.1%} to {max(found):.1%}): {ON} {on[kind]}, {name} "
        f"{without[kind]}"
        for kind, found in costs.items()
    )
    return Figure(
        value=statistics.median(costs[worst]),
        unit="of throughput",
        baseline=promised,
        baseline_name="promised at most" if promised else "",
        note=f"smaller is better; below 0 is noise. Median of {len(costs[worst])} starts, of each the median of "
        f"{TURNS} loads of {LOAD_S:g} s, in the worse of both protocols, {worst}. "
        f"{each}.",
    )


def _by_rounds(on: Row, without: Row) -> list[float]:
    return [1 - mine.rate / other.rate for mine, other in zip(on.loads, without.loads, strict=True)]

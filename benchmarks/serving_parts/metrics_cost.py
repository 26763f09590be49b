"""Claim: metrics cost less than 3% of throughput. Ours with everything on against the same without metrics, in turn."""

from __future__ import annotations

import statistics

from benchmarks.harness import Figure
from benchmarks.serving_parts.contest import contest
from benchmarks.serving_parts.contestants import GRPC_UNARY, REST_JSON, ours
from benchmarks.serving_parts.context import Context
from benchmarks.serving_parts.load import Row
from benchmarks.serving_parts.models import IDENTITY

ON, OFF = "metrics on", "metrics off"
PROMISED = 0.03
KINDS = (REST_JSON, GRPC_UNARY)


def run(context: Context) -> dict[str, Figure]:
    """The worse of both protocols."""
    rows = contest(context, IDENTITY, [ours(ON, loads=KINDS), ours(OFF, loads=KINDS, metrics=False)])
    return figures({kind: (rows[ON][kind], rows[OFF][kind]) for kind in KINDS})


def figures(pairs: dict[str, tuple[Row, Row]]) -> dict[str, Figure]:
    """From the rows with and without, by kind of load."""
    costs = {kind: 1 - with_.rate / without.rate for kind, (with_, without) in pairs.items()}
    worst = max(costs, key=costs.__getitem__)
    each = "; ".join(
        f"{kind} {costs[kind]:.1%}, by rounds {_paired(with_, without)}: {ON} {with_}, {OFF} {without}"
        for kind, (with_, without) in pairs.items()
    )
    return {
        "metrics_cost": Figure(
            value=costs[worst],
            unit="of throughput",
            baseline=PROMISED,
            baseline_name="promised at most",
            note=f"smaller is better; below 0 is noise. The worse of both: {worst}. {each}.",
        )
    }


def _paired(with_: Row, without: Row) -> str:
    """The spread of the rounds' costs."""
    costs = [1 - a.rate / b.rate for a, b in zip(with_.loads, without.loads, strict=True)]
    return f"{min(costs):.1%} to {max(costs):.1%}, median {statistics.median(costs):.1%}"

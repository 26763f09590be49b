"""The same contest with a small tabular model: a hundred boosted trees, one row a request, so that batching shows.

Supporting figures: nothing was promised, beyond that ours is beside the same peers.
"""

from __future__ import annotations

from benchmarks.harness import Figure
from benchmarks.serving_parts.contest import Rows, best_settings, contest
from benchmarks.serving_parts.contestants import GRPC_UNARY, PEERS, REST_JSON, ours
from benchmarks.serving_parts.context import Context
from benchmarks.serving_parts.gateway import LOAD, OURS
from benchmarks.serving_parts.models import TABULAR

KEYS = {REST_JSON: "tabular_rest_json_rps", GRPC_UNARY: "tabular_grpc_unary_rps"}


def run(context: Context) -> dict[str, Figure]:
    """Figures of the tabular model."""
    chosen = PEERS[:1] if context.quick else PEERS
    settings, tried = best_settings(context, TABULAR, chosen)
    mine = ours(OURS, loads=tuple(KEYS))
    return figures(contest(context, TABULAR, [mine, *chosen], only=tuple(KEYS), settings=settings), tried)


def figures(rows: Rows, tried: str) -> dict[str, Figure]:
    """Ours in each protocol beside the fastest peer that speaks it."""
    found = {}
    for kind, key in KEYS.items():
        others = {name: each[kind] for name, each in rows.items() if name != OURS and kind in each}
        best = max(others, key=lambda name: others[name].rate) if others else ""
        each = "; ".join(f"{name} {row}" for name, row in others.items())
        found[key] = Figure(
            value=rows[OURS][kind].rate,
            unit="requests/s",
            baseline=others[best].rate if best else None,
            baseline_name=f"{best}, the fastest peer" if best else "",
            note=f"bigger is better. {kind}, 100 boosted trees on 16 numbers; {LOAD}. Ours {rows[OURS][kind]}; {each}. "
            f"Peers' settings: {tried}.",
        )
    return found

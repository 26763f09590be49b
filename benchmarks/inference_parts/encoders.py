"""Encoders: speed of ours through ``auto`` against each peer, accuracy of the int8 copy, cold start."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from benchmarks.harness import Figure
from benchmarks.inference_parts import cold_start, encoder_accuracy
from benchmarks.inference_parts.context import Context
from benchmarks.inference_parts.encoder_contest import FP32, OURS, Outcome, Outcomes, chosen_peers, contest
from benchmarks.inference_parts.encoder_inputs import calibration, cells
from benchmarks.inference_parts.encoder_models import BASE, MINILM, encoders

PROMISED = {1: "5", 32: "4"}
TOKENS = 128


def run(context: Context) -> dict[str, Figure]:
    """All figures of encoders."""
    models = encoders(context)
    texts = calibration(context, models[MINILM])
    outcomes: Outcomes = {}
    took: dict[str, str] = {}
    for name, encoder in models.items():
        found, took[name] = contest(context, encoder, cells(context, encoder), texts)
        outcomes |= {f"{name}, {cell}": each for cell, each in found.items()}
    figures = {} if context.quick else {f"encoder_b{rows}_speedup": _speedup(outcomes, took, rows) for rows in PROMISED}
    figures |= against_peers(outcomes, took, chosen_peers(context))
    figures |= encoder_accuracy.run(context, models[MINILM], took[MINILM])
    return figures | cold_start.run(context, models[BASE], texts)


def _speedup(outcomes: Outcomes, took: Mapping[str, str], rows: int) -> Figure:
    found = outcomes[f"{BASE}, {rows} x {TOKENS}"]
    ours, theirs = found[OURS].median, found[FP32].median
    return Figure(
        value=theirs / ours,
        unit="times faster",
        baseline=1.0,
        baseline_name=f"{FP32}: {1e3 * theirs:.1f} ms, ours {1e3 * ours:.1f} ms",
        note=f"bigger is better; promised {PROMISED[rows]}. BERT-base size, {rows} x {TOKENS} tokens, 2 threads, auto "
        f"took {took[BASE]}. {_each(found)}.",
    )


def against_peers(outcomes: Outcomes, took: Mapping[str, str], names: tuple[str, ...]) -> dict[str, Figure]:
    """The worst cell against that cell's best peer, and all cells against the peer that is best over all of them."""
    best = {cell: min(names, key=lambda name: found[name].median) for cell, found in outcomes.items()}
    ratios = {cell: outcomes[cell][peer].median / outcomes[cell][OURS].median for cell, peer in best.items()}
    worst = min(ratios, key=ratios.__getitem__)
    overall = {
        name: _geometric([found[name].median / found[OURS].median for found in outcomes.values()]) for name in names
    }
    single = min(overall, key=overall.__getitem__)
    each = "; ".join(f"{cell}: {ratios[cell]:.2f} against {best[cell]}. {_each(outcomes[cell])}" for cell in outcomes)
    chosen = ", ".join(f"{name}: {what}" for name, what in took.items())
    return {
        "encoder_worst_cell_vs_best_peer": Figure(
            value=ratios[worst],
            unit="times as fast",
            baseline=1.0,
            baseline_name=f"{best[worst]} in {worst}",
            note=f"bigger is better; promised 0.95. The least over {len(outcomes)} cells of the best peer's time there "
            f"divided by ours; auto took {chosen}. {each}.",
        ),
        "encoder_overall_vs_best_single_peer": Figure(
            value=overall[single],
            unit="times as fast",
            baseline=1.0,
            baseline_name=f"{single}, the fastest peer over all cells",
            note=f"bigger is better; promised 1. Geometric mean over {len(outcomes)} cells of a peer's time divided by "
            f"ours: {'; '.join(f'{name} {value:.2f}' for name, value in overall.items())}.",
        ),
    }


def _each(found: Mapping[str, Outcome]) -> str:
    """Every contestant in one cell, in words."""
    return ", ".join(
        f"{name} {1e3 * each.median:.1f} ms"
        + (f" ({1e3 * each.text_median:.0f} from texts)" if each.text_seconds else "")
        + f" off {each.error:.1%} {each.peak_mb:.0f} MB"
        for name, each in found.items()
    )


def _geometric(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))

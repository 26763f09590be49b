"""Encoders: speed of ours through ``auto`` against each peer, accuracy of the int8 copy, cold start."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Figure
from benchmarks.inference_parts import cold_start, encoder_accuracy
from benchmarks.inference_parts.context import Context
from benchmarks.inference_parts.encoder_contest import FP32, OURS, Outcome, Outcomes, chosen_peers, contest
from benchmarks.inference_parts.encoder_inputs import calibration, cells
from benchmarks.inference_parts.encoder_models import BASE, MINILM, encoders
from benchmarks.inference_parts.standing import Standing

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
    times = {cell: {name: each.median for name, each in found.items()} for cell, found in outcomes.items()}
    standing = Standing.of(times, OURS, names)
    each = "; ".join(
        f"{cell}: {standing.ratios[cell]:.2f} against {standing.best[cell]}. {_each(outcomes[cell])}"
        for cell in outcomes
    )
    chosen = ", ".join(f"{name}: {what}" for name, what in took.items())
    return standing.figures("encoder", among="peer", worst_note=f"auto took {chosen}. {each}")


def _each(found: Mapping[str, Outcome]) -> str:
    """Every contestant in one cell, in words."""
    return ", ".join(
        f"{name} {1e3 * each.median:.1f} ms"
        + (f" ({1e3 * each.text_median:.0f} from texts)" if each.text_seconds else "")
        + f" off {each.error:.1%} {each.peak_mb:.0f} MB"
        for name, each in found.items()
    )

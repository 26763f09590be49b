"""A search as pictures: how the metric rose, and what each setting did to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepseek.training.search.config import Choices, Range
from deepseek.training.search.trials import Trial

HISTORY, SLICES, IMPORTANCE = "history.png", "slices.png", "importance.png"
BLUE, GREY, RED, LIGHT = "#1f6feb", "#8b949e", "#d1242f", "#d0d7de"


def draw(
    folder: Path,
    trials: Sequence[Trial],
    *,
    metric: str,
    direction: str,
    parameters: Mapping[str, Range | Choices],
    importances: Mapping[str, float],
) -> tuple[str, ...]:
    """Write the pictures; returns what was left out, and why."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return ("no plots: matplotlib is not installed; pip install 'deepseek[plots]'",)
    _history(Figure, trials, metric, direction).savefig(folder / HISTORY, dpi=120)
    _slices(Figure, trials, metric, direction, parameters).savefig(folder / SLICES, dpi=120)
    if not importances:
        return (f"no {IMPORTANCE}: it needs at least four completed trials that differ",)
    _importance(Figure, importances, metric).savefig(folder / IMPORTANCE, dpi=120)
    return ()


def _history(figure_class: Any, trials: Sequence[Trial], metric: str, direction: str) -> Any:
    figure = figure_class(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    done = [t for t in trials if t.state == "complete"]
    pruned = [t for t in trials if t.state == "pruned" and t.value is not None]
    better = min if direction == "minimize" else max
    best: float | None = None
    line: list[tuple[int, float]] = []
    for t in done:
        if t.value is not None:
            best = t.value if best is None else better(best, t.value)
            line.append((t.number, best))
    if line:
        end = trials[-1].number
        axes.step([n for n, _ in line] + [end], [v for _, v in line] + [line[-1][1]], where="post", color=BLUE,
                  linewidth=1.8, label="best so far")  # fmt: skip
    axes.scatter([t.number for t in done], [t.value for t in done], s=26, color=BLUE, alpha=0.6, label="complete")
    axes.scatter([t.number for t in pruned], [t.value for t in pruned], s=24, marker="x", color=GREY, label="pruned")
    failed = [t.number for t in trials if t.state == "failed"]
    if failed:
        axes.scatter(failed, [0.02] * len(failed), s=30, marker="v", color=RED, label="failed",
                     transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip
    _dress(axes, "trial", metric)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _slices(
    figure_class: Any, trials: Sequence[Trial], metric: str, direction: str, parameters: Mapping[str, Range | Choices]
) -> Any:
    columns = 2 if len(parameters) in (2, 4) else min(3, len(parameters))
    rows = -(-len(parameters) // columns)
    figure = figure_class(figsize=(3.6 * columns + 0.6, 3.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    shown = [t for t in trials if t.state == "complete"]
    better = min if direction == "minimize" else max
    best = better(shown, key=lambda t: t.value or 0.0, default=None)
    dots = None
    for place, (path, values) in enumerate(parameters.items()):
        axes = grid[place // columns][place % columns]
        if isinstance(values, Choices):
            names = [c if isinstance(c, str) else json.dumps(c) for c in values.choices]
            at = [float(values.choices.index(t.parameters[path])) for t in shown]
            star = float(values.choices.index(best.parameters[path])) if best else 0.0
            axes.set_xticks(range(len(names)), [n if len(n) < 14 else n[:12] + "…" for n in names])
            axes.set_xlim(-0.6, len(names) - 0.4)
        else:
            at = [float(t.parameters[path]) for t in shown]
            star = float(best.parameters[path]) if best else 0.0
            if values.log:
                axes.set_xscale("log")
            elif values.whole:
                axes.xaxis.get_major_locator().set_params(integer=True)
        dots = axes.scatter(at, [t.value for t in shown], c=[t.number for t in shown], cmap="Blues", vmin=-8, s=28,
                            edgecolors="#57606a", linewidths=0.4)  # fmt: skip
        if best:
            axes.scatter([star], [best.value], s=110, facecolors="none", edgecolors=RED, linewidths=1.6)
        _dress(axes, path, metric if place % columns == 0 else "")
    for place in range(len(parameters), rows * columns):
        grid[place // columns][place % columns].axis("off")
    if dots is not None and len(shown) > 1:
        bar = figure.colorbar(dots, ax=grid, shrink=0.8, label="trial")
        bar.outline.set_visible(False)
        bar.ax.set_ylim(shown[0].number, shown[-1].number)
    return figure


def _importance(figure_class: Any, importances: Mapping[str, float], metric: str) -> Any:
    figure = figure_class(figsize=(7, 0.9 + 0.42 * len(importances)), layout="constrained")
    axes = figure.subplots()
    names = list(importances)[::-1]
    bars = axes.barh(names, [importances[n] for n in names], color=BLUE, height=0.6)
    axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=8)
    _dress(axes, f"share of what explains {metric}", "")
    axes.set_xlim(0, max(1e-9, max(importances.values())) * 1.15)
    return figure


def _dress(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8, color=LIGHT)
    axes.grid(color=LIGHT, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LIGHT)

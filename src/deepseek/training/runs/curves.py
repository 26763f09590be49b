"""The curves of a run, from the Trainer's log: a CSV file and a picture."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepseek.artifacts.cache import write_text
from deepseek.training.loop.flow import SCORE

LEFT_OUT = (
    "curve.png was left out: matplotlib is not installed (pip install 'deepseek[plots]'); curve.csv has the numbers"
)


def write_curve_csv(folder: Path, history: Sequence[dict[str, Any]]) -> None:
    """Write ``curve.csv``."""
    write_text(folder / "curve.csv", curve_csv(history))


def write_curves(folder: Path, history: Sequence[dict[str, Any]], metric: str) -> str | None:
    """Write ``curve.csv`` and ``curve.png``; returns why there is no picture, if there is none.

    Args:
        history: the Trainer's ``log_history``.
        metric: the validation metric to draw, with its ``_low`` and ``_high`` bounds where there are any.
    """
    write_curve_csv(folder, history)
    if importlib.util.find_spec("matplotlib") is None:
        return LEFT_OUT
    _draw(folder / "curve.png", history, metric)
    return None


def curve_csv(history: Sequence[dict[str, Any]]) -> str:
    """One line a step that was logged or scored: step, epoch, loss, learning_rate, grad_norm, validation metrics."""
    points: dict[int, dict[str, Any]] = {}
    for entry in history:
        if "loss" in entry or any(key.startswith(SCORE) for key in entry):
            points.setdefault(int(entry["step"]), {}).update(entry)
    scores = sorted({key for point in points.values() for key in point if key.startswith(SCORE)})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "epoch", "loss", "learning_rate", "grad_norm", *(s.removeprefix(SCORE) for s in scores)])
    for step, point in sorted(points.items()):
        values = [point.get(key, "") for key in ("epoch", "loss", "learning_rate", "grad_norm", *scores)]
        writer.writerow([step, *values])
    return text.getvalue()


def _draw(path: Path, history: Sequence[dict[str, Any]], metric: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses = [(int(e["step"]), float(e["loss"])) for e in history if "loss" in e]
    rates = [(int(e["step"]), float(e["learning_rate"])) for e in history if "learning_rate" in e]
    scores = [(int(e["step"]), e) for e in history if f"{SCORE}{metric}" in e]
    panels = 3 if scores else 2
    figure = Figure(figsize=(8, 2.6 * panels), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(panels, 1, sharex=True, height_ratios=[3, *([3] if scores else []), 1.4])
    loss_axis, rate_axis = axes[0], axes[-1]
    mark = {"marker": "o", "markersize": 3.5} if len(losses) < 60 else {}
    if losses:
        loss_axis.plot(*zip(*losses, strict=True), color="#1f5fa8", linewidth=1.6, **mark)
        rate_axis.plot(*zip(*rates, strict=True), color="#555555", linewidth=1.4)
    loss_axis.set_ylabel("training loss")
    if scores:
        _draw_scores(axes[1], scores, metric)
    rate_axis.set_ylabel("learning rate")
    rate_axis.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    rate_axis.set_xlabel("optimiser step")
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(buffer.getvalue())
    part.replace(path)


def _draw_scores(axis: Any, scores: list[tuple[int, dict[str, Any]]], metric: str) -> None:
    key = f"{SCORE}{metric}"
    steps = [step for step, _ in scores]
    values = [float(entry[key]) for _, entry in scores]
    if all(f"{key}_low" in entry and f"{key}_high" in entry for _, entry in scores):
        low = [value - float(entry[f"{key}_low"]) for value, (_, entry) in zip(values, scores, strict=True)]
        high = [float(entry[f"{key}_high"]) - value for value, (_, entry) in zip(values, scores, strict=True)]
        bars = [[max(0.0, v) for v in low], [max(0.0, v) for v in high]]
        axis.errorbar(steps, values, yerr=bars, color="#b5482a", marker="o", markersize=4, linewidth=1.6, capsize=3,
                      elinewidth=0.9, label="95% interval")  # fmt: skip
        axis.legend(loc="best", frameon=False, fontsize=8)
    else:
        axis.plot(steps, values, color="#b5482a", marker="o", markersize=4, linewidth=1.6)
    axis.set_ylabel(f"validation\n{metric.replace('_', ' ')}")

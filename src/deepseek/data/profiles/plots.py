"""Distributions as pictures: bins of equal width from bins of equal count, SVG bars, and bars made of letters."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepseek.data.profiles.sketches import Floats

BLOCKS = " ▁▂▃▄▅▆▇█"
GRID = 24


def short(value: float | None) -> str:
    """A number in few characters."""
    if value is None:
        return ""
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def plain_grid(column: Mapping[str, Any]) -> list[float]:
    """Edges of equal width from the 1% to the 99% quantile of a profile's numbers, where nearly everything lies."""
    low, high = column["min"], column["max"]
    if quantiles := column.get("quantiles"):
        inner_low, inner_high = quantiles["0.01"], quantiles["0.99"]
        low, high = (inner_low, inner_high) if inner_high > inner_low else (low, high)
    if not high > low:
        return [low, high]
    return [float(edge) for edge in np.linspace(low, high, GRID + 1)]


def regrid(edges: Sequence[float], counts: Any, grid: Sequence[float], *, fold: bool = True) -> Floats:
    """Counts over ``grid``, spreading each bin evenly over its width; what lies outside goes to the outer bins, or
    nowhere without ``fold``."""
    below = np.concatenate([[0.0], np.cumsum(np.asarray(counts, dtype=float))])
    reached: Floats = np.interp(grid, edges, below)
    if fold:
        reached[0], reached[-1] = 0.0, below[-1]
    return np.diff(reached)


def sparkline(counts: Any) -> str:
    """Bars of one character each."""
    values = np.asarray(counts, dtype=float)
    if not len(values) or not values.max():
        return ""
    heights = np.ceil(values / values.max() * (len(BLOCKS) - 1)).astype(int)
    return "".join(BLOCKS[height] for height in heights)


def column_svg(labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], ends: tuple[str, str]) -> str:
    """Upright bars, one group a label; ``series`` are (CSS class, shares). ``ends`` are written below the axis."""
    width, height, floor = 320, 110, 92
    top = max((max(values, default=0.0) for _, values in series), default=0.0) or 1.0
    slot = width / max(len(labels), 1)
    thick = max((slot - (2 if slot > 8 else 0.6)) / len(series), 0.8)
    parts = []
    for place, label in enumerate(labels):
        for rank, (name, values) in enumerate(series):
            tall = values[place] / top * (floor - 8)
            x = place * slot + rank * thick + (slot - thick * len(series)) / 2
            parts.append(
                f'<rect class="{name}" x="{x:.1f}" y="{floor - tall:.1f}" width="{thick:.1f}" height="{tall:.1f}">'
                f"<title>{html.escape(label)}: {values[place]:.1%}</title></rect>"
            )
    axis = f'<line class="axis" x1="0" y1="{floor}" x2="{width}" y2="{floor}"/>'
    left, right = (html.escape(end) for end in ends)
    text = f'<text x="0" y="106">{left}</text><text x="{width}" y="106" text-anchor="end">{right}</text>'
    return f'<svg viewBox="0 0 {width} {height}" role="img">{axis}{"".join(parts)}{text}</svg>'


def row_svg(labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Lying bars with their labels on the left, for categories."""
    line = 9 * len(series) + 7
    height = line * len(labels) + 2
    top = max((max(values, default=0.0) for _, values in series), default=0.0) or 1.0
    parts = []
    for place, label in enumerate(labels):
        y = place * line + 2
        parts.append(
            f'<text x="104" y="{y + line / 2:.1f}" text-anchor="end">{html.escape(_cut(label, 17))}'
            f"<title>{html.escape(label)}</title></text>"
        )
        for rank, (name, values) in enumerate(series):
            long = values[place] / top * 160
            parts.append(
                f'<rect class="{name}" x="110" y="{y + rank * 9}" width="{max(long, 0.5):.1f}" height="8"/>'
                f'<text class="value" x="{114 + long:.1f}" y="{y + rank * 9 + 7.5}">{values[place]:.1%}</text>'
            )
    return f'<svg viewBox="0 0 320 {height}" role="img">{"".join(parts)}</svg>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"

"""Curves over a size, both axes logarithmic, as panels of one SVG picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 400, 280, 52, 34, 16, 40


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a curve is drawn, and what the legend calls it."""

    name: str
    colour: str
    hollow_from: float = math.inf
    """Points from this size on were not measured: hollow, their line dashed."""


def sheet(panels: Mapping[str, str], legend: Sequence[Look], target: Path, *, guide: str = "") -> None:
    """Write panels (title -> :func:`panel`), two beside each other, above one legend.

    Args:
        guide: what the dashed grey lines are.
    """
    rows = math.ceil(len(panels) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {rows * HEIGHT + 34}" '
        'font-family="system-ui,sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for index, drawn in enumerate(panels.values()):
        x, y = (index % 2) * WIDTH, (index // 2) * HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{drawn}</g>')
    step, bottom = 600 / max(4, len(legend)), rows * HEIGHT + 16
    for index, look in enumerate(legend):
        x = 60 + index * step
        parts.append(f'<circle cx="{x:.0f}" cy="{bottom - 4}" r="5" fill="{look.colour}"/>')
        parts.append(f'<text x="{x + 10:.0f}" y="{bottom}">{look.name}</text>')
    if guide:
        x = 60 + len(legend) * step
        parts.append(
            f'<line x1="{x - 8:.0f}" x2="{x + 10:.0f}" y1="{bottom - 4}" y2="{bottom - 4}" stroke="#888" '
            f'stroke-dasharray="3 3"/><text x="{x + 15:.0f}" y="{bottom}">{guide}</text>'
        )
    target.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def panel(
    title: str,
    curves: Sequence[tuple[Look, Mapping[int, float]]],
    *,
    sizes: str,
    linear: Mapping[int, float] | None = None,
    unit: str = "s",
) -> str:
    """One panel.

    Args:
        curves: looks and their points, size -> value.
        sizes: what is on the horizontal axis.
        linear: a curve to draw a straight line of slope 1 beside, from its middle.
    """
    known = [n for _, points in curves for n in points]
    values = [value for _, points in curves for value in points.values()]
    low_x, high_x = math.log10(min(known)), math.log10(max(known))
    low_y, high_y = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def x(size: float) -> float:
        return LEFT + (math.log10(size) - low_x) / (high_x - low_x or 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(value) - low_y) / (high_y - low_y or 1) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="20" font-size="14" font-weight="600" fill="#222">{title}</text>']
    for power in range(low_y, high_y + 1):
        parts.append(_line(LEFT, y(10**power), WIDTH - RIGHT, y(10**power), 'stroke="#e2e2e2"'))
        parts.append(_label(LEFT - 6, y(10**power) + 4, f"{10.0**power:g} {unit}", "end"))
    for size in sorted(set(known)):
        parts.append(_line(x(size), TOP, x(size), HEIGHT - BOTTOM, 'stroke="#f0f0f0"'))
        parts.append(_label(x(size), HEIGHT - BOTTOM + 16, short(size), "middle"))
    parts.append(_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, sizes, "middle"))
    if linear and len(linear) > 1:
        start, last = sorted(linear)[len(linear) // 2], max(linear)
        slope = linear[start] / start
        first = max(min(linear), 10**low_y / slope)
        end = min(slope * last, 10**high_y)
        parts.append(_line(x(first), y(slope * first), x(last), y(end), 'stroke="#888" stroke-dasharray="3 3"'))
    for look, points in curves:
        placed = [(size, x(size), y(value)) for size, value in sorted(points.items())]
        solid = sum(size < look.hollow_from for size, _, _ in placed)
        for part, dashes in ((placed[:solid], ""), (placed[max(0, solid - 1) :], ' stroke-dasharray="4 3"')):
            if len(part) > 1:
                path = " ".join(f"{x1:.1f},{y1:.1f}" for _, x1, y1 in part)
                parts.append(f'<polyline points="{path}" fill="none" stroke="{look.colour}" stroke-width="2"{dashes}/>')
        for size, x1, y1 in placed:
            fill = "#fff" if size >= look.hollow_from else look.colour
            parts.append(f'<circle cx="{x1:.1f}" cy="{y1:.1f}" r="3" fill="{fill}" stroke="{look.colour}"/>')
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#666">{text}</text>'


def short(size: float) -> str:
    """A size in thousands or millions; powers of two in 1,024s."""
    if size >= 1_024 and size % 1_024 == 0:
        return f"{size / 1_024:g}k"
    return f"{size / 1e6:g}M" if size >= 1e6 else f"{size / 1e3:g}k" if size >= 1_000 else f"{size:g}"

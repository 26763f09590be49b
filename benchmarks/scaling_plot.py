"""The curve of results/scaling.json as one SVG file: seconds over rows, both logarithmic, one panel a kind of work."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

PLACES = {"1_core": "1 core", "2_cores": "2 cores", "ray_1_node": "Ray, 1 node", "ray_2_nodes": "Ray, 2 nodes"}
COLOURS = {"1_core": "#8aa4d6", "2_cores": "#2f5fc4", "ray_1_node": "#eeb98a", "ray_2_nodes": "#d9711f"}
TITLES = {
    "ingestion": "Ingestion of CSV",
    "profile": "Profile of all columns",
    "point_in_time": "Point-in-time join",
    "cleaning": "Cleaning of texts",
}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 400, 280, 52, 34, 16, 40
_KEY = re.compile(r"(?P<work>\w+?)_(?P<place>1_core|2_cores|ray_1_node|ray_2_nodes)_(?P<rows>\d+)$")


def draw(results: Path, target: Path) -> None:
    """Write the picture."""
    figures = json.loads(results.read_text(encoding="utf-8"))["figures"]
    curves: dict[str, dict[str, dict[int, float]]] = {}
    for key, figure in figures.items():
        if match := _KEY.match(key):
            curve = curves.setdefault(match["work"], {}).setdefault(match["place"], {})
            curve[int(match["rows"])] = figure["value"]
    panels = [work for work in TITLES if work in curves]
    rows = math.ceil(len(panels) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {rows * HEIGHT + 34}" '
        'font-family="system-ui,sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for index, work in enumerate(panels):
        x, y = (index % 2) * WIDTH, (index // 2) * HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{_panel(TITLES[work], curves[work])}</g>')
    for index, (key, name) in enumerate(PLACES.items()):
        x, y = 60 + index * 150, rows * HEIGHT + 16
        parts.append(
            f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{COLOURS[key]}"/><text x="{x + 10}" y="{y}">{name}</text>'
        )
    dashed = 60 + len(PLACES) * 150
    parts.append(
        f'<line x1="{dashed - 8}" x2="{dashed + 10}" y1="{rows * HEIGHT + 12}" y2="{rows * HEIGHT + 12}" '
        f'stroke="#888" stroke-dasharray="3 3"/><text x="{dashed + 15}" y="{rows * HEIGHT + 16}">linear</text>'
    )
    target.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _panel(title: str, curve: dict[str, dict[int, float]]) -> str:
    sizes = [n for points in curve.values() for n in points]
    seconds = [s for points in curve.values() for s in points.values()]
    low_x, high_x = math.log10(min(sizes)), math.log10(max(sizes))
    low_y, high_y = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))

    def x(rows: float) -> float:
        return LEFT + (math.log10(rows) - low_x) / (high_x - low_x or 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(value) - low_y) / (high_y - low_y or 1) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="20" font-size="14" font-weight="600" fill="#222">{title}</text>']
    for power in range(low_y, high_y + 1):
        parts.append(_line(LEFT, y(10**power), WIDTH - RIGHT, y(10**power), "#e2e2e2"))
        parts.append(_label(LEFT - 6, y(10**power) + 4, f"{10.0**power:g} s", "end"))
    for rows in sorted(set(sizes)):
        parts.append(_line(x(rows), TOP, x(rows), HEIGHT - BOTTOM, "#f0f0f0"))
        parts.append(_label(x(rows), HEIGHT - BOTTOM + 16, _short(rows), "middle"))
    parts.append(_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "rows", "middle"))
    best = curve.get("2_cores", {})
    if len(best) > 1:
        start, end = max(min(best), sorted(best)[len(best) // 2]), max(best)
        slope = best[start] / start
        first, last = max(min(best), 10**low_y / slope), end
        parts.append(
            f'<line x1="{x(first):.1f}" y1="{y(slope * first):.1f}" x2="{x(last):.1f}" '
            f'y2="{y(min(slope * last, 10**high_y)):.1f}" stroke="#888" stroke-dasharray="3 3"/>'
        )
    for place, points in curve.items():
        path = " ".join(f"{x(n):.1f},{y(s):.1f}" for n, s in sorted(points.items()))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[place]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(n):.1f}" cy="{y(s):.1f}" r="3" fill="{COLOURS[place]}"/>' for n, s in points.items()]
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#666">{text}</text>'


def _short(rows: int) -> str:
    return f"{rows / 1e6:g}M" if rows >= 1e6 else f"{rows / 1e3:g}k"

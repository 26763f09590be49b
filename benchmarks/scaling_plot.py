"""The curve of results/scaling.json as one SVG file: seconds over rows, both logarithmic, one panel a kind of work."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.loglog import Look, panel, sheet

PLACES = {"1_core": "1 core", "2_cores": "2 cores", "ray_1_node": "Ray, 1 node", "ray_2_nodes": "Ray, 2 nodes"}
COLOURS = {"1_core": "#8aa4d6", "2_cores": "#2f5fc4", "ray_1_node": "#eeb98a", "ray_2_nodes": "#d9711f"}
TITLES = {
    "ingestion": "Ingestion of CSV",
    "profile": "Profile of all columns",
    "point_in_time": "Point-in-time join",
    "cleaning": "Cleaning of texts",
}
_KEY = re.compile(r"(?P<work>\w+?)_(?P<place>1_core|2_cores|ray_1_node|ray_2_nodes)_(?P<rows>\d+)$")


def draw(results: Path, target: Path) -> None:
    """Write the picture."""
    figures = json.loads(results.read_text(encoding="utf-8"))["figures"]
    curves: dict[str, dict[str, dict[int, float]]] = {}
    for key, figure in figures.items():
        if match := _KEY.match(key):
            curve = curves.setdefault(match["work"], {}).setdefault(match["place"], {})
            curve[int(match["rows"])] = figure["value"]
    looks = {place: Look(name=name, colour=COLOURS[place]) for place, name in PLACES.items()}
    panels = {
        work: panel(
            title,
            [(looks[place], points) for place, points in curves[work].items()],
            sizes="rows",
            linear=curves[work].get("2_cores"),
        )
        for work, title in TITLES.items()
        if work in curves
    }
    sheet(panels, list(looks.values()), target, guide="linear")

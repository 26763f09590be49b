"""The measured part of docs/scale.md, between two markers, from results/scaling.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.scaling_plot import PLACES, TITLES

PARTS = ("measured", "costs")
PETABYTE_ROWS = 1e12
EFFICIENCY = 0.7
CORE_HOUR_USD = 0.04
REQUESTS_USD = {
    "ingestion": ("CSV in ranges of 8 MB, files of 4 GiB", 50e12 / 8e6 * 0.4e-6 + 50e12 / 4.3e9 * 5e-6),
    "profile": ("50 bytes a row in GETs of 0.36 MB", 50e12 / 0.36e6 * 0.4e-6),
    "point_in_time": ("24 bytes a row in GETs of 0.03 MB", 24e12 / 0.03e6 * 0.4e-6),
    "cleaning": ("50 bytes a row read three times", 3 * 50e12 / 0.36e6 * 0.4e-6),
}
"""What 10^12 rows cost in requests, by the formulas of the page."""
KINDS = {"cpu": "core seconds", "2_cores": "seconds, 2 cores", "ray_2_nodes": "seconds, Ray, 2 nodes"}
_MODEL = re.compile(r"model: ([0-9.e+-]+) s \+ ([0-9.e+-]+) s per million rows")


def write_page(results: Path, page: Path) -> None:
    """Replace what stands between the markers; a page without them is left alone."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    document = json.loads(results.read_text(encoding="utf-8"))
    for part, made in zip(PARTS, (render(document), costs(document["figures"])), strict=True):
        begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
        if begin in text and end in text:
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}\n{made}\n{end}{rest.split(end, 1)[1]}"
    if text:
        page.write_text(text, encoding="utf-8")


def costs(figures: dict[str, Any]) -> str:
    """What 10^12 rows take, computed from the largest size of each kind of work."""
    lines = ["| work | core seconds, a million rows | core hours | on 1,000 cores | USD, cores | USD, requests |"]
    lines += ["| --- " * 6 + "|"]
    for work, title in TITLES.items():
        sizes = [int(key.rpartition("_")[2]) for key in figures if re.fullmatch(rf"{work}_cpu_\d+", key)]
        if sizes:
            slope = figures[f"{work}_cpu_{max(sizes)}"]["value"] / max(sizes)
            hours = slope * PETABYTE_ROWS / 3600
            name, usd = REQUESTS_USD[work]
            lines.append(
                f"| {title} | {slope * 1e6:.3g} | {hours:,.0f} | {hours / 1000 / EFFICIENCY:.2g} h | "
                f"{hours * CORE_HOUR_USD:,.0f} | {usd:,.0f} ({name}) |"
            )
    return "\n".join(lines)


def render(document: dict[str, Any]) -> str:
    """Tables in Markdown: seconds by size and place, and predictions beside what was measured."""
    figures = document["figures"]
    hardware = "; ".join(f"{key}: {value}" for key, value in document["hardware"].items())
    lines = [f"{document['date'][:10]}, commit `{document['commit'][:12]}`. {hardware}.", ""]
    lines += ["Seconds (median), the same table and the same result everywhere:", ""]
    lines += [f"| work | rows | {' | '.join(PLACES.values())} | core seconds |", "| --- " * 7 + "|"]
    for work, title in TITLES.items():
        sizes = sorted(int(key.rpartition("_")[2]) for key in figures if re.fullmatch(rf"{work}_2_cores_\d+", key))
        for rows in sizes:
            cells = [_number(figures[f"{work}_{place}_{rows}"]["value"]) for place in PLACES]
            cells.append(_number(figures[f"{work}_cpu_{rows}"]["value"]))
            lines.append(f"| {title} | {rows:,} | {' | '.join(cells)} |")
    lines += [
        "",
        "The model `fixed + rows * slope`, fitted to the sizes up to the one named, against the largest size:",
        "",
    ]
    lines += ["| work | of | fitted up to | fixed | slope, a million rows | predicted | measured | ratio |"]
    lines += ["| --- " * 8 + "|"]
    for work, title in TITLES.items():
        for kind, name in (
            ("cpu", "core seconds"),
            ("2_cores", "seconds, 2 cores"),
            ("ray_2_nodes", "seconds, Ray, 2 nodes"),
        ):
            if (figure := figures.get(f"{work}_{kind}_predicted")) and (model := _MODEL.search(figure["note"])):
                fitted = figure["baseline_name"].removeprefix("predicted from up to ").removesuffix(" rows")
                rows = figure["note"].partition(" rows")[0]
                cells = [f"{title}, {rows} rows", name, fitted, f"{float(model[1]):.3g}", f"{float(model[2]):.3g}"]
                cells += [_number(figure["baseline"]), _number(figure["value"]), f"{figure['ratio']:.2f}"]
                lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| work | growth exponent | 2 cores against 1 | Ray, 2 nodes against 1 | Ray against threads |"]
    lines += ["| --- " * 5 + "|"]
    for work, title in TITLES.items():
        if f"{work}_growth_exponent" in figures:
            keys = ("growth_exponent", "speedup_2_cores", "ray_speedup_2_nodes", "ray_overhead")
            cells = [f"{figures[f'{work}_{key}']['value']:.2f}" for key in keys]
            lines.append(f"| {title} | {cells[0]} | {cells[1]}x faster | {cells[2]}x faster | {cells[3]}x the time |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.3g}"

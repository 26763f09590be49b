"""The measured part of docs/deepseek-base.md, between two markers, and its picture, from results/attention.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.loglog import Look, panel, sheet

PAGES = {ROOT / "docs" / "deepseek-base.md": "en", ROOT / "docs" / "deepseek-base.zh-CN.md": "zh"}
PICTURE = ROOT / "docs" / "images" / "attention-speed.svg"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PANELS = {
    "bf16": "Bidirectional, bfloat16",
    "bf16_causal": "Causal, bfloat16",
    "fp32": "Bidirectional, float32",
    "fp32_causal": "Causal, float32",
}
TABLES = (("time", ""), ("time", "_backward"), ("memory", ""), ("memory", "_backward"))
"""Beginning and end of the keys of each table's figures."""
WORDS = {
    "en": {
        "intro": "One text, 12 heads of 64; the gate with all that it needs, dense attention by PyTorch's SDPA.",
        "time": "Forward, seconds (median):",
        "time_backward": "Forward and backward, seconds:",
        "memory": "Forward, peak memory of the process in MB (libraries included):",
        "memory_backward": "Forward and backward, peak memory in MB:",
        "head": "tokens",
        "names": "bf16 | bf16, causal | fp32 | fp32, causal",
        "gate": "gate",
        "dense": "dense",
        "star": "* by the square law from dense attention's longest run, which is above it.",
        "exponent": "exponent from 8k on",
    },
    "zh": {
        "intro": "一个文本，12 个 64 维的头；门包含其全部开销，稠密注意力是 PyTorch 的 SDPA。",
        "time": "前向，秒（中位数）：",
        "time_backward": "前向与反向，秒：",
        "memory": "前向，进程的峰值内存，MB（含库）：",
        "memory_backward": "前向与反向，峰值内存，MB：",
        "head": "词元",
        "names": "bf16 | bf16，因果 | fp32 | fp32，因果",
        "gate": "门",
        "dense": "稠密",
        "star": "* 由稠密注意力最长的一次实测（在其上方）按平方律推算。",
        "exponent": "自 8k 起的指数",
    },
}
_KEY = re.compile(r"(time|memory)_((?:bf16|fp32)(?:_causal)?)(_backward)?_(\d+)$")
Curves = dict[tuple[str, str], dict[str, dict[int, Any]]]
"""Table -> curve -> tokens -> figure."""


def write(results: Path) -> None:
    """Draw the picture and replace what stands between the markers of each page."""
    document = json.loads(results.read_text(encoding="utf-8"))
    curves: Curves = {}
    for key, figure in document["figures"].items():
        if match := _KEY.match(key):
            kind, curve, backward, tokens = match.groups()
            curves.setdefault((kind, backward or ""), {}).setdefault(curve, {})[int(tokens)] = figure
    if not curves:
        return
    draw(curves[TABLES[0]], PICTURE)
    for page, language in PAGES.items():
        text = page.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN, 1)
        made = render(document, curves, WORDS[language])
        page.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def draw(curves: dict[str, dict[int, Any]], target: Path) -> None:
    """The gate and dense attention, a panel each precision and direction."""
    gate, colour = Look(name="gate", colour="#2f5fc4"), "#d9711f"
    panels = {}
    for curve, title in PANELS.items():
        points = curves[curve]
        guessed = [tokens for tokens, figure in points.items() if _extrapolated(figure)]
        dense = Look(name="dense attention", colour=colour, hollow_from=min(guessed, default=float("inf")))
        ours = {tokens: figure["value"] for tokens, figure in points.items()}
        theirs = {tokens: figure["baseline"] for tokens, figure in points.items()}
        panels[curve] = panel(title, [(dense, theirs), (gate, ours)], sizes="tokens", linear=ours)
    legend = [gate, Look(name="dense attention (hollow: by the square law)", colour=colour)]
    sheet(panels, legend, target)


def render(document: dict[str, Any], curves: Curves, words: dict[str, str]) -> str:
    """The tables in Markdown."""
    hardware = "; ".join(document["hardware"][name] for name in ("processor", "memory"))
    lines = [f"{words['intro']} {document['date'][:10]}; {hardware}."]
    for kind, backward in TABLES:
        rows = curves[kind, backward]
        lines += ["", words[kind + backward], ""]
        heads = [f"{name}: {words['gate']} | {words['dense']}" for name in words["names"].split(" | ")]
        lines += [f"| {words['head']} | {' | '.join(heads)} |", "| --- " * (2 * len(PANELS) + 1) + "|"]
        for tokens in sorted(rows["bf16"]):
            cells = [_cell(rows[curve][tokens]) for curve in PANELS]
            lines.append(f"| {tokens:,} | {' | '.join(cells)} |")
        prefix = "exponent" if kind == "time" else "memory_exponent"
        found = [document["figures"][f"{prefix}_{curve}{backward}"]["value"] for curve in PANELS]
        lines.append(f"| {words['exponent']} | {' | '.join(f'{value:.2f} | ' for value in found)} |")
    return "\n".join([*lines, "", words["star"]])


def _cell(figure: dict[str, Any]) -> str:
    star = "*" if _extrapolated(figure) else ""
    dense = "" if figure["baseline"] is None else f"{_number(figure['baseline'])}{star}"
    return f"{_number(figure['value'])} | {dense}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _extrapolated(figure: dict[str, Any]) -> bool:
    return "extrapolated" in figure["baseline_name"]

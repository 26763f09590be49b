"""Profiles and drift reports for a terminal: one line a column, and the reasons of a verdict below."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.data.profiles.live import number_bins
from deepseek.data.profiles.plots import plain_grid, regrid, short, sparkline

if TYPE_CHECKING:
    from deepseek.data.profiles.drift_report import DriftReport

_MARKS = {"stable": "  ", "warning": "! ", "drift": "✗ "}


def render_profile(profile: Mapping[str, Any]) -> str:
    """A profile as text: kind, share of nulls, the most telling figures and a small histogram of each column."""
    lines = [("column", "kind", "nulls", "summary", "distribution")]
    for name, column in profile["columns"].items():
        rows = column["count"] + column["nulls"]
        nulls = f"{column['nulls'] / rows:.1%}" if column["nulls"] else "0"
        lines.append((_cut(name, 28), column["kind"], nulls, _cut(summary(column), 66), picture(column)))
    return f"{profile['rows']:,} rows\n\n" + _aligned(lines)


def summary(column: Mapping[str, Any]) -> str:
    """A column's figures in a few words."""
    kind = column["kind"]
    if kind == "time" and "first" in column:
        return f"{column['first']} to {column['last']}"
    if kind == "number" and "mean" in column:
        bad = f", {column['nan']:,} not finite" if column["nan"] else ""
        low, high, mean, std = (short(column[key]) for key in ("min", "max", "mean", "std"))
        return f"{low} to {high}, mean {mean}, std {std}{bad}"
    if kind == "boolean" and column["count"]:
        return f"{column['top']['true'] / column['count']:.1%} true"
    if kind == "text" and column["count"]:
        about = "" if column["distinct_is_exact"] else "about "
        length = column["length"]
        return (
            f"{about}{column['distinct']:,} distinct, {length['min']:,} to {length['max']:,} characters, "
            f"mean {length['mean']:.1f}"
        )
    if kind == "blob" and column["size"]:
        formats = ", ".join(f"{name} {count:,}" for name, count in (column["formats"] or {}).items())
        return f"{_bytes(column['size']['min'])} to {_bytes(column['size']['max'])}" + (
            f"; {formats}" if formats else ""
        )
    if kind == "vector":
        norm = f", norm {short(column['norm']['mean'])} ± {short(column['norm']['std'])}" if "norm" in column else ""
        return f"{column['dimension']} dimensions{norm}"
    if kind == "list" and column["length"]:
        length = column["length"]
        inner = summary(column["items"])
        return f"{short(length['min'])} to {short(length['max'])} items" + (f" of {inner}" if inner else "")
    if kind == "struct":
        return ", ".join(column["fields"])
    return ""


def picture(column: Mapping[str, Any]) -> str:
    """A column's distribution in block characters; empty where there is none."""
    counts = distribution(column)
    return sparkline(counts[1]) if counts else ""


def distribution(column: Mapping[str, Any]) -> tuple[list[str], list[float]] | None:
    """Labels and counts of what is worth drawing of a column."""
    kind = column["kind"]
    if kind in ("number", "time") or (kind not in {"text", "boolean"} and "edges" in column):
        if not column.get("edges"):
            return None
        edges, counts = number_bins(column)
        if (column.get("distinct") or 21) <= 20:
            return [short(edge) for edge in edges[:-1]], [float(count) for count in counts]
        grid = plain_grid(column)
        labels = [f"{short(low)} to {short(high)}" for low, high in itertools.pairwise(grid)]
        return labels, regrid(edges, counts, grid, fold=False).tolist()
    if kind == "text" and column["count"]:
        if column["top"]:
            return list(column["top"])[:20], [float(count) for count in column["top"].values()][:20]
        length = column["length"]
        kept = [index for index, count in enumerate(length["counts"]) if count]
        shown = range(kept[0], kept[-1] + 1)
        return [f"{length['edges'][i]}+ characters" for i in shown], [float(length["counts"][i]) for i in shown]
    if kind == "boolean" and column["count"]:
        return list(column["top"]), [float(count) for count in column["top"].values()]
    inner = {"blob": "size", "vector": "norm", "list": "length"}.get(kind)
    return distribution({"kind": "number", **column[inner]}) if inner and column.get(inner) else None


def drift_text(report: DriftReport) -> str:
    """A drift report as text: verdicts, sizes of the differences, reasons."""
    counted = {v: sum(column.verdict == v for column in report.columns) for v in ("drift", "warning", "stable")}
    head = (
        f"{report.verdict}: {counted['drift']} of {len(report.columns)} columns drift, {counted['warning']} with a "
        f"warning; {report.current_rows:,} rows against {report.reference_rows:,}"
    )
    lines = [("", "column", "kind", "verdict", "largest difference", "p")]
    for column in report.columns:
        largest = max(column.tests, key=report.config.severity, default=None)
        p_value = "" if largest is None or largest.p_adjusted is None else _probability(largest.p_adjusted)
        text = "" if largest is None else f"{largest.aspect}: {largest.measure} {largest.effect:.3f}"
        lines.append((_MARKS[column.verdict], _cut(column.name, 28), column.kind, column.verdict, text, p_value))
    reasons = [f"  {column.name}: {reason}" for column in report.columns for reason in column.reasons]
    return "\n".join([head, "", _aligned(lines), *(["", "Reasons", *reasons] if reasons else [])])


def _probability(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"

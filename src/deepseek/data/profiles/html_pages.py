"""Profiles and drift reports as one HTML file each: no script, no network, light and dark."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepseek.data.profiles.plots import column_svg, row_svg, short
from deepseek.data.profiles.text_pages import distribution, summary

if TYPE_CHECKING:
    from deepseek.data.profiles.drift_report import ColumnDrift, DriftReport

_STYLE = """
:root{--bg:#fbfbfa;--card:#fff;--ink:#1c2024;--soft:#60646c;--line:#e3e4e6;--a:#3f6fd8;--b:#e5803a;--ok:#2f8f5b;
--warning:#b3730c;--drift:#c4362c}
@media(prefers-color-scheme:dark){:root{--bg:#121416;--card:#1a1d20;--ink:#e6e8ea;--soft:#9aa1a9;--line:#2c3035;
--a:#6d97f0;--b:#f09a5c;--ok:#5cc08a;--warning:#e0a94b;--drift:#f0776d}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans","Noto Sans SC",sans-serif}
main{max-width:1160px;margin:0 auto;padding:32px 20px 56px}h1{font-size:26px;margin:0 0 4px}
.lead{color:var(--soft);margin:0 0 24px}
.grid{display:grid;gap:16px;align-items:start;
grid-template-columns:repeat(auto-fill,minmax(340px,1fr))}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px;min-width:0}
.card h2{font-size:16px;margin:0;overflow-wrap:anywhere}.kind{color:var(--soft);font-size:12.5px;margin:2px 0 10px}
.row{display:flex;justify-content:space-between;gap:10px;align-items:baseline}svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font-size:10px}svg .value{font-size:8.5px}svg .axis{stroke:var(--line)}rect.a{fill:var(--a)}
rect.b{fill:var(--b)}dl{display:grid;grid-template-columns:auto 1fr;gap:2px 14px;margin:10px 0 0;font-size:13px}
dt{color:var(--soft)}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.badge{font-size:12px;font-weight:600;border-radius:99px;padding:1px 10px;
border:1px solid currentColor;white-space:nowrap}
.stable{color:var(--ok)}.warning{color:var(--warning)}.drift{color:var(--drift)}
ul{margin:10px 0 0;padding-left:18px;font-size:13px}.key{display:flex;gap:18px;color:var(--soft);font-size:13px;
margin:-12px 0 20px}.key i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px}
table{border-collapse:collapse;width:100%;font-size:12.5px;margin-top:8px}td,th{text-align:right;padding:2px 0 2px 10px;
font-variant-numeric:tabular-nums}td:first-child,th:first-child{text-align:left;padding-left:0}th{color:var(--soft);
font-weight:500}details{margin-top:10px;font-size:13px}summary{cursor:pointer;color:var(--soft)}
"""


def profile_page(profile: Mapping[str, Any], title: str = "Profile") -> str:
    """A profile as a page."""
    columns = profile["columns"]
    lead = f"{profile['rows']:,} rows, {len(columns)} columns"
    cards = [_profile_card(name, column) for name, column in columns.items()]
    return _page(title, f'<p class="lead">{lead}</p><div class="grid">{"".join(cards)}</div>')


def _profile_card(name: str, column: Mapping[str, Any]) -> str:
    rows = column["count"] + column["nulls"]
    facts = [("values", f"{column['count']:,}"), ("nulls", f"{column['nulls'] / rows:.2%}" if rows else "0")]
    if "quantiles" in column and column["kind"] == "number":
        facts += [("mean ± std", f"{short(column['mean'])} ± {short(column['std'])}")]
        facts += [("min / max", f"{short(column['min'])} / {short(column['max'])}")]
        quartiles = (short(column["quantiles"][share]) for share in ("0.25", "0.5", "0.75"))
        facts += [("quartiles", " / ".join(quartiles))]
        if column["nan"]:
            facts += [("not finite", f"{column['nan']:,}")]
    elif text := summary(column):
        facts += [("", text)]
    if column["kind"] == "vector" and "mean" in column:
        spread = column["std"]
        facts += [("std of a dimension", f"{short(min(spread))} to {short(max(spread))}")]
    listed = "".join(
        f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>"
        if key
        else f'<dd style="grid-column:1/3;text-align:left">{html.escape(value)}</dd>'
        for key, value in facts
    )
    drawn = _drawing(column)
    kind = html.escape(f"{column['kind']} · {column.get('type', '')}".removesuffix(" · "))
    inner = ""
    fields = dict(column.get("fields") or {})
    if fields:
        cards = "".join(_profile_card(*field) for field in fields.items())
        inner = f'<div style="display:grid;gap:10px;margin-top:10px">{cards}</div>'
    return (
        f'<section class="card"><h2>{html.escape(name)}</h2><p class="kind">{kind}</p>{drawn}<dl>{listed}</dl>{inner}'
        "</section>"
    )


def _drawing(column: Mapping[str, Any]) -> str:
    found = distribution(column)
    if not found or not sum(found[1]):
        return ""
    labels, counts = found
    if len(labels) < 2 and column["kind"] == "text" and not column["top"]:
        return ""
    shares = [count / sum(counts) for count in counts]
    if (column["kind"] == "text" and column["top"]) or column["kind"] == "boolean":
        whole = [count / column["count"] for count in counts]
        return row_svg(labels[:8], [("a", whole[:8])]) + _rest(len(column["top"]) - 8)
    return column_svg(labels, [("a", shares)], _ends(labels, column))


def _rest(more: int) -> str:
    return f'<p class="kind">and {more} more</p>' if more > 0 else ""


def _ends(labels: Any, column: Mapping[str, Any] | None = None) -> tuple[str, str]:
    if column is not None and column["kind"] == "time" and "first" in column:
        return column["first"][:10], column["last"][:10]
    first, last = labels[0], labels[-1]
    unit = {"blob": " bytes", "vector": " (norm)", "list": " items"}.get(column["kind"], "") if column else ""
    low, high = first.partition(" to ")[0], last.partition(" to ")[2] or last
    if low.endswith("Z") and high.endswith("Z"):
        return low[:16], high[:16]
    return low, high + unit


def drift_page(report: DriftReport, title: str = "Drift") -> str:
    """A drift report as a page, the worst columns first."""
    order = {"drift": 0, "warning": 1, "stable": 2}
    columns = sorted(report.columns, key=lambda column: order[column.verdict])
    counted = {verdict: sum(column.verdict == verdict for column in columns) for verdict in order}
    lead = (
        f"{report.current_rows:,} current rows against {report.reference_rows:,} of the reference: "
        f"{counted['drift']} columns drift, {counted['warning']} with a warning, {counted['stable']} stable. "
        f"All tests together err with a probability of at most {report.config.alpha:g} when nothing drifts."
    )
    key = (
        '<p class="key"><span><i style="background:var(--a)"></i>reference</span>'
        '<span><i style="background:var(--b)"></i>current</span></p>'
    )
    badge = f'<span class="badge {report.verdict}">{report.verdict}</span>'
    cards = "".join(_drift_card(column) for column in columns)
    return _page(title, f'<p class="lead">{badge} {lead}</p>{key}<div class="grid">{cards}</div>')


def _drift_card(column: ColumnDrift) -> str:
    bars = column.bars
    drawn = ""
    if bars and bars.labels:
        series = [("a", bars.reference), ("b", bars.current)]
        numeric = " to " in bars.labels[0] or bars.labels[0].endswith("characters")
        drawn = (
            column_svg(bars.labels, series, _ends(bars.labels))
            if numeric
            else row_svg(bars.labels[:8], [(name, values[:8]) for name, values in series]) + _rest(len(bars.labels) - 8)
        )
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in column.reasons)
    rows = "".join(
        f"<tr><td>{html.escape(test.aspect)}</td><td>{html.escape(test.measure)} {test.effect:.3f}</td>"
        f"<td>{'' if test.p_adjusted is None else f'{test.p_adjusted:.3g}'}</td>"
        f'<td class="{test.verdict}">{test.verdict}</td></tr>'
        for test in column.tests
    )
    table = (
        f"<details><summary>{len(column.tests)} tests</summary><table><tr><th>aspect</th><th>effect</th>"
        f"<th>p, corrected</th><th></th></tr>{rows}</table></details>"
        if rows
        else ""
    )
    return (
        f'<section class="card"><div class="row"><h2>{html.escape(column.name)}</h2>'
        f'<span class="badge {column.verdict}">{column.verdict}</span></div><p class="kind">{column.kind}</p>'
        f"{drawn}{f'<ul>{reasons}</ul>' if reasons else ''}{table}</section>"
    )


def _page(title: str, body: str) -> str:
    safe = html.escape(title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{safe}</title><style>{_STYLE}</style></head>'
        f"<body><main><h1>{safe}</h1>{body}</main></body></html>\n"
    )

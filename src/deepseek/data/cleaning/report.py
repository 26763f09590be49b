"""What a cleaning did, for a person (terminal table, HTML page) and for a program (dict, JSON)."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable

EXAMPLES = 3
EXCERPT_CHARS = 160


@dataclass(frozen=True, kw_only=True)
class Example:
    """One rejected row, and the text of the row that it repeats, if it repeats one. Long texts are cut.

    ``detail`` is what was measured. Personal data is hidden in both texts whenever the cleaning looked for it.
    """

    reason: str
    row: int
    text: str
    duplicate_of: int | None = None
    duplicate_text: str | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step did: ``changed`` counts texts that were rewritten and kept; up to three examples a reason.

    ``details`` are a step's own findings, as plain values.
    """

    step: str
    rows_in: int
    rows_out: int
    changed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CleaningReport:
    """All steps of one cleaning, in order, and the configuration that it ran with."""

    rows_in: int
    rows_out: int
    steps: list[StepReport]
    config: dict[str, Any]

    @property
    def rejected(self) -> int:
        """How many rows were rejected."""
        return self.rows_in - self.rows_out

    @property
    def reasons(self) -> dict[str, int]:
        """Reason to number of rows, over all steps."""
        return {reason: count for step in self.steps for reason, count in step.reasons.items()}

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {**asdict(self), "rejected": self.rejected}

    def to_json(self) -> str:
        """The report as indented JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    def render(self) -> RichTable:
        """The report as a table for the terminal: ``rich.print(report.render())``."""
        from rich.table import Table
        from rich.text import Text

        title = f"Cleaning: {self.rows_in:,} rows in, {self.rows_out:,} kept, {self.rejected:,} rejected"
        table = Table(title=title, title_justify="left", expand=False)
        for name, justify in (("step", "left"), ("rows in", "right"), ("changed", "right"), ("rejected", "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        table.add_column("why", overflow="fold")
        for step in self.steps:
            why = "\n".join(f"{reason}: {count:,}" for reason, count in step.reasons.items())
            rejected = step.rows_in - step.rows_out
            table.add_row(step.step, f"{step.rows_in:,}", f"{step.changed:,}", f"{rejected:,}", Text(why))
        return table

    def to_html(self, path: str | Path) -> Path:
        """Write the report as one self-contained page; returns its path."""
        target = Path(path)
        target.write_text(_page(self), encoding="utf-8")
        return target


def excerpt(text: str | None) -> str:
    """The beginning of a text, for an example."""
    text = text or ""
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;"
    "background:#fff}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;"
    "border-bottom:1px solid #d6dade;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    "blockquote{margin:.4rem 0;padding-left:.8rem;border-left:3px solid #d6dade;overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{background:#14171a;color:#e4e7ea}th,td,blockquote{border-color:#3a4047}}"
)


def _page(report: CleaningReport) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(step.step)}</td><td class=n>{step.rows_in:,}</td><td class=n>{step.changed:,}</td>"
        f"<td class=n>{step.rows_in - step.rows_out:,}</td><td>"
        + "<br>".join(f"{html.escape(reason)}: {count:,}" for reason, count in step.reasons.items())
        + "</td></tr>"
        for step in report.steps
    )
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Cleaning report</title><style>{_STYLE}</style></head><body><h1>Cleaning report</h1>"
        f"<p>{report.rows_in:,} rows in, {report.rows_out:,} kept, {report.rejected:,} rejected.</p>"
        f"<table><thead><tr><th>Step</th><th class=n>Rows in</th><th class=n>Changed</th><th class=n>Rejected</th>"
        f"<th>Why</th></tr></thead><tbody>{rows}</tbody></table>"
        + "".join(_examples(step) for step in report.steps if step.examples)
        + f"<h2>Settings</h2><pre>{html.escape(json.dumps(report.config, indent=2))}</pre></body></html>\n"
    )


def _examples(step: StepReport) -> str:
    parts = [f"<h2>Examples: {html.escape(step.step)}</h2>"]
    for example in step.examples:
        text = html.escape(example.text)
        parts.append(f"<p>{html.escape(example.reason)}, row {example.row}</p><blockquote>{text}</blockquote>")
        if example.duplicate_text is not None:
            text = html.escape(example.duplicate_text)
            parts.append(f"<p>repeats row {example.duplicate_of}</p><blockquote>{text}</blockquote>")
    return "".join(parts)

"""What a cleaning did, for a person (terminal table, HTML page) and for a program (dict, JSON)."""

from __future__ import annotations

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
    """All steps of one cleaning, in order, and the configuration that it ran with.

    ``before`` and ``after`` count the rows by text length (``lengths``) and by label (``labels``).
    """

    rows_in: int
    rows_out: int
    steps: list[StepReport]
    config: dict[str, Any]
    before: dict[str, dict[str, int]] = field(default_factory=dict)
    after: dict[str, dict[str, int]] = field(default_factory=dict)

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
            why = "\n".join([*(f"{reason}: {count:,}" for reason, count in step.reasons.items()), *_found(step)])
            rejected = step.rows_in - step.rows_out
            table.add_row(step.step, f"{step.rows_in:,}", f"{step.changed:,}", f"{rejected:,}", Text(why))
        return table

    def to_html(self, path: str | Path, *, lang: str = "en") -> Path:
        """Write the report as one self-contained page, in English (``"en"``) or Chinese (``"zh"``); returns its path.

        Raises:
            UnknownNameError: there is no such language.
        """
        from deepseek.data.cleaning.report_page import page

        target = Path(path)
        target.write_text(page(self, lang), encoding="utf-8")
        return target


def _found(step: StepReport) -> list[str]:
    """A step's findings beside the rejected rows, in a line: kinds of personal data, languages, flags."""
    flagged = "flagged" in step.details
    counts = step.details.get("found", {}) if flagged else step.details
    if not flagged and step.step not in {"personal data", "language"}:
        return []
    shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:6])
    return [f"{'flagged' if flagged else 'found'}: {shown}"] if shown else []


def excerpt(text: str | None) -> str:
    """The beginning of a text, for an example."""
    text = text or ""
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"

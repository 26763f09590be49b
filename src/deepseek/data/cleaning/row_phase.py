"""Phase 1: the row steps on one piece, wherever an engine runs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.inputs import Piece
from deepseek.data.cleaning.overview import Overview, overview
from deepseek.data.cleaning.report import EXAMPLES, Example, StepReport, excerpt
from deepseek.data.cleaning.step import Columns, RowNumbers, StepResult
from deepseek.data.cleaning.steps import row_steps
from deepseek.data.cleaning.text_facts import text_facts
from deepseek.data.cleaning.text_steps import presentable

ROW = "input_row"


@dataclass(frozen=True, kw_only=True)
class RowTask:
    """A piece and what to do with it."""

    piece: Piece
    columns: Columns
    config: CleaningConfig


@dataclass(kw_only=True)
class RowOutcome:
    """A piece after the row steps.

    ``staged`` has the kept rows: their numbers (column ``input_row``), the columns that table steps need, and the
    facts. ``overview`` counts lengths and labels before any step. ``fates`` lists the rejected rows, by step: input-row
    numbers, reasons and details.
    """

    staged: pa.RecordBatch
    fates: list[tuple[RowNumbers, list[str], list[str]]]
    reports: list[StepReport]
    overview: Overview
    counts: list[Counter[str]] = field(default_factory=list)


def run_row_steps(task: RowTask) -> RowOutcome:
    """Read a piece and apply the row steps to it, each to the rows that the one before it kept."""
    columns, config = task.columns, task.config
    current = task.piece.read(columns_read(columns))
    numbers: RowNumbers = np.arange(task.piece.start, task.piece.stop, dtype=np.int64)
    facts: dict[str, pa.Array] = {}
    outcome = RowOutcome(staged=None, fates=[], reports=[], overview=overview(current, columns))
    for name, step in row_steps(config, columns):
        result = step(current, columns, config)
        facts.update(result.facts)
        outcome.reports.append(_report(name, result, task, numbers))
        outcome.counts.append(Counter(result.counts))
        rejected = sorted(result.rejections, key=lambda rejection: rejection.row)
        outcome.fates.append(
            (
                numbers[[rejection.row for rejection in rejected]],
                [rejection.reason for rejection in rejected],
                [rejection.detail for rejection in rejected],
            )
        )
        current = result.table
        if rejected:
            mask = result.kept_mask()
            chosen = pa.array(mask)
            current, numbers = current.filter(chosen), numbers[mask]
            facts = {fact: values.filter(chosen) for fact, values in facts.items()}
    staged = {ROW: pa.array(numbers, pa.int64())}
    staged |= {name: _one(current.column(name)) for name in columns_staged(columns)}
    staged |= {name: _one(values) for name, values in facts.items()}
    staged |= text_facts(current, columns)
    outcome.staged = pa.RecordBatch.from_pydict(staged)
    return outcome


def columns_read(columns: Columns) -> list[str]:
    """The columns that row steps get."""
    names = (columns.text, columns.label, columns.split, columns.image, columns.vector)
    return list(dict.fromkeys(name for name in names if name is not None))


def columns_staged(columns: Columns) -> list[str]:
    """The columns that are kept for table steps as the row steps leave them; others are read from the input."""
    return list(dict.fromkeys(name for name in (columns.text, columns.label, columns.split) if name is not None))


def _one(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _report(name: str, result: StepResult, task: RowTask, numbers: RowNumbers) -> StepReport:
    columns = task.columns
    rows = result.table.num_rows
    reasons = Counter(rejection.reason for rejection in result.rejections)
    shown: Counter[str] = Counter()
    examples: list[Example] = []
    for rejection in sorted(result.rejections, key=lambda rejection: rejection.row):
        shown[rejection.reason] += 1
        if shown[rejection.reason] <= EXAMPLES:
            text = None if columns.text is None else result.table.column(columns.text)[rejection.row].as_py()
            examples.append(
                Example(
                    reason=rejection.reason,
                    row=int(numbers[rejection.row]),
                    text=excerpt(presentable(text, task.config)),
                    detail=rejection.detail,
                )
            )
    return StepReport(
        step=name,
        rows_in=rows,
        rows_out=rows - len(result.rejections),
        changed=result.changed,
        reasons=dict(reasons),
        examples=examples,
    )


def merged(reports: Sequence[StepReport], counts: Sequence[Counter[str]]) -> StepReport:
    """The reports of one step on all pieces, in piece order, as one."""
    reasons: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    examples = []
    found: Counter[str] = Counter()
    for report, count in zip(reports, counts, strict=True):
        reasons.update(report.reasons)
        found.update(count)
        for example in report.examples:
            shown[example.reason] += 1
            if shown[example.reason] <= EXAMPLES:
                examples.append(example)
    return StepReport(
        step=reports[0].step,
        rows_in=sum(report.rows_in for report in reports),
        rows_out=sum(report.rows_out for report in reports),
        changed=sum(report.changed for report in reports),
        reasons=dict(reasons.most_common()),
        examples=examples,
        details=dict(found.most_common()),
    )

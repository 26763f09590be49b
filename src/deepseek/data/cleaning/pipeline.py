"""Runs the cleaning steps in order and accounts for every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.leakage import leakage
from deepseek.data.cleaning.near_duplicates import near_duplicates
from deepseek.data.cleaning.repeats import conflicting_labels, exact_duplicates
from deepseek.data.cleaning.report import EXAMPLES, CleaningReport, Example, StepReport, excerpt
from deepseek.data.cleaning.row_checks import check_rows
from deepseek.data.cleaning.step import Columns, Rejection, RowStep, StepResult
from deepseek.data.table import Table
from deepseek.data.table.rejects import write_rejects
from deepseek.errors import DataError, UnknownNameError

REJECT_FIELDS = pa.schema(
    [("input_row", pa.int64()), ("step", pa.string()), ("reason", pa.string()), ("duplicate_of", pa.int64())]
)
"""The columns that rejected rows get: row numbers are 0-based and count in the cleaner's input."""


@dataclass(frozen=True, kw_only=True)
class CleaningResult:
    """Kept rows (texts normalised), rejected rows (as they came, with :data:`REJECT_FIELDS`), and the report."""

    kept: pa.Table
    rejected: pa.Table
    report: CleaningReport


def clean(
    table: pa.Table,
    config: CleaningConfig | None = None,
    *,
    text: str = "text",
    label: str | None = "label",
    split: str | None = None,
) -> CleaningResult:
    """Clean a table in memory; every input row is either kept or rejected with a reason, in input order.

    Args:
        table: at least a string column ``text``.
        config: what to do; the defaults when absent.
        label: the label column, or ``None`` for unlabelled data.
        split: the column that says ``"train"`` or the name of a held-out set; ``None`` for data without splits.

    Raises:
        UnknownNameError: a column does not exist.
        DataError: the text column is not text, or a column has a name that the rejected rows need.
        MissingExtraError: near duplicates are asked for and the extra ``clean`` is not installed.
    """
    config = config or CleaningConfig()
    columns = Columns(text=text, label=label, split=split)
    _check(table, columns)
    input_rows = np.arange(table.num_rows)
    current = table
    steps: list[StepReport] = []
    fates: list[tuple[int, str, str, int | None]] = []
    for name, step in _steps(config, columns):
        with progress.bar(f"clean: {name}", current.num_rows) as bar:
            result = step(current, columns, config)
            bar.set(current.num_rows)
        steps.append(_step_report(name, result, columns, input_rows))
        for rejection in result.rejections:
            other = None if rejection.duplicate_of is None else int(input_rows[rejection.duplicate_of])
            fates.append((int(input_rows[rejection.row]), name, rejection.reason, other))
        current = result.kept()
        input_rows = input_rows[result.kept_mask()]
    fates.sort()
    report = CleaningReport(
        rows_in=table.num_rows, rows_out=current.num_rows, steps=steps, config=config.model_dump(mode="json")
    )
    return CleaningResult(kept=current, rejected=_rejected(table, fates), report=report)


def clean_table(
    source: Table,
    dest_path: str | Path,
    config: CleaningConfig | None = None,
    *,
    text: str = "text",
    label: str | None = "label",
    split: str | None = None,
    overwrite: bool = False,
) -> tuple[Table, CleaningReport]:
    """Clean a table into a new one, with the rejected rows beside it in ``NAME.rejects.lance``.

    The rejects are written before the cleaned table becomes visible, so it never exists without them. The cleaned table
    keeps the source's metadata and says which version of which table it was made from. The rows are held in memory.

    Raises:
        TableError: the destination exists and ``overwrite`` is false, or cannot be written.
        DataError, UnknownNameError, MissingExtraError: as :func:`clean`.
    """
    result = clean(source.to_arrow(), config, text=text, label=label, split=split)
    origin = {"cleaned_from": Path(source.path).name, "cleaned_from_version": str(source.version)}
    rejected = result.rejected
    cleaned = Table.create(
        dest_path,
        result.kept,
        overwrite=overwrite,
        metadata={**source.metadata, **origin},
        before_commit=lambda: write_rejects(dest_path, rejected, rejected.schema, count=rejected.num_rows),
    )
    return cleaned, result.report


def _steps(config: CleaningConfig, columns: Columns) -> Iterator[tuple[str, RowStep]]:
    yield "row checks", check_rows
    if config.exact_duplicates:
        yield "exact duplicates", exact_duplicates
    if config.conflicting_labels is not None and columns.label is not None:
        yield "conflicting labels", conflicting_labels
    if config.near_duplicates is not None:
        yield "near duplicates", near_duplicates
    if config.leakage and columns.split is not None:
        yield "leakage", leakage


def _check(table: pa.Table, columns: Columns) -> None:
    for name in (columns.text, columns.label, columns.split):
        if name is not None and name not in table.column_names:
            raise UnknownNameError("column", name, table.column_names)
    kind = table.schema.field(columns.text).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"column {columns.text!r}: expected text (string), received {kind}")
    for name in REJECT_FIELDS.names:
        if name in table.column_names:
            raise DataError(f"the column name {name!r} is needed for the rejected rows; rename that column first")


def _step_report(name: str, result: StepResult, columns: Columns, input_rows: Any) -> StepReport:
    reasons = Counter(rejection.reason for rejection in result.rejections)
    shown: Counter[str] = Counter()
    chosen: list[Rejection] = []
    for rejection in result.rejections:
        if shown[rejection.reason] < EXAMPLES:
            shown[rejection.reason] += 1
            chosen.append(rejection)
    texts = result.table.column(columns.text)
    examples = [
        Example(
            reason=rejection.reason,
            row=int(input_rows[rejection.row]),
            text=excerpt(texts[rejection.row].as_py()),
            duplicate_of=None if rejection.duplicate_of is None else int(input_rows[rejection.duplicate_of]),
            duplicate_text=None if rejection.duplicate_of is None else excerpt(texts[rejection.duplicate_of].as_py()),
        )
        for rejection in chosen
    ]
    return StepReport(
        step=name,
        rows_in=result.table.num_rows,
        rows_out=result.table.num_rows - len(result.rejections),
        changed=result.changed,
        reasons=dict(reasons.most_common()),
        examples=examples,
    )


def _rejected(table: pa.Table, fates: list[tuple[int, str, str, int | None]]) -> pa.Table:
    rows = table.take(pa.array([fate[0] for fate in fates], pa.int64()))
    for position, field in enumerate(REJECT_FIELDS):
        rows = rows.append_column(field, pa.array([fate[position] for fate in fates], field.type))
    return rows

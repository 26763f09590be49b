"""Clean and split the rows of a run, from table to table in bounded memory.

Rows that bring a ``split`` column are cleaned with it. Otherwise the whole table is cleaned first, so that no copies
are left to fall on both sides, then split, then checked for leakage (near copies with different labels may remain).

Rows with several inputs (pairs of texts) or with lists of tokens are compared by all of their text at once, in a column
that is made for that and taken away again: two pairs are duplicates when both of their texts are.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data import CleaningConfig, CleaningReport, SplitConfig, Table, assign_splits_table, clean_table
from deepseek.data.table.rejects import rejects_path
from deepseek.errors import UnknownNameError

SPLIT = "split"
NAME = "clean.lance"
JOINED = "joined_text"


@dataclass(frozen=True)
class Prepared:
    """The kept rows with a ``split`` column, the reasons of the rejected ones, and the full reports."""

    table: Table
    reasons: dict[str, int]
    reports: list[dict[str, Any]]


def prepare(
    raw: Table,
    folder: Path,
    cleaning: CleaningConfig | None,
    split: SplitConfig,
    *,
    text: str | Sequence[str],
    label: str | None,
    classes: bool = True,
) -> Prepared:
    """Clean ``raw`` as ``cleaning`` says (``None`` leaves it as it is) and give every row a split.

    The rows go to ``clean.lance`` in ``folder``, those that were rejected to ``clean.rejects.lance``, with the row
    numbers of ``raw``.

    Args:
        text: the column with the input; several columns, or one with lists of strings, count as one text, bytes (an
            image) as their SHA-256.
        label: the column with the answers: the cleaner rejects rows that have none.
        classes: whether a label is one class, whose share each split should keep.

    Raises:
        DataError, UnknownNameError: as :func:`deepseek.data.clean` and :func:`deepseek.data.assign_splits`.
    """
    columns = (text,) if isinstance(text, str) else tuple(text)
    if len(columns) == 1 and columns[0] in raw.columns and _is_text(raw, columns[0]):
        return _prepare(raw, folder, cleaning, split, columns[0], label, classes)
    with _joined(raw, columns) as name:
        prepared = _prepare(raw, folder, cleaning, split, name, label, classes)
        if prepared.table is not raw:
            prepared.table.drop_columns([name])
    return prepared


def _prepare(
    raw: Table,
    folder: Path,
    cleaning: CleaningConfig | None,
    split: SplitConfig,
    text: str,
    label: str | None,
    classes: bool,
) -> Prepared:
    target = folder / NAME
    if SPLIT in raw.columns:
        if cleaning is None:  # held-out rows without labels may stay: they are predicted, not scored
            return Prepared(assign_splits_table(raw, target, split, text=text, label=None), {}, [])
        table, report = clean_table(raw, target, cleaning, text=text, label=label, split=SPLIT, overwrite=True)
        assign_splits_table(table, target, split, text=text, label=None)  # checks the splits that there are
        return _prepared(table, [report])
    strata = label if classes else None
    if cleaning is None:
        return Prepared(assign_splits_table(raw, target, split, text=text, label=strata, overwrite=True), {}, [])
    whole_path, divided_path = folder / "clean-whole.lance", folder / "clean-divided.lance"
    try:
        whole, report = clean_table(raw, whole_path, cleaning, text=text, label=label, overwrite=True)
        divided = assign_splits_table(whole, divided_path, split, text=text, label=strata, overwrite=True)
        between = cleaning.between_splits()
        table, leaks = clean_table(divided, target, between, text=text, label=label, split=SPLIT, overwrite=True)
        _join_rejects(whole_path, target, report, leaks)
    finally:
        for path in (whole_path, divided_path, Path(rejects_path(whole_path)), Path(rejects_path(divided_path))):
            shutil.rmtree(path, ignore_errors=True)
    return _prepared(table, [report, leaks])


def _is_text(table: Table, column: str) -> bool:
    kind = table.schema.field(column).type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


@contextmanager
def _joined(table: Table, columns: Sequence[str]) -> Iterator[str]:
    """A column with all text of each row, null where a part is missing or empty; it is there inside the block only."""
    for column in columns:
        if column not in table.columns:
            raise UnknownNameError("column", column, table.columns)
    name = JOINED
    while name in table.columns:
        name += "_"

    def join(batch: pa.RecordBatch) -> dict[str, list[str | None]]:
        rows = zip(*(batch.column(column).to_pylist() for column in columns), strict=True)
        return {name: [_one_text(row) for row in rows]}

    table.add_columns(join, schema=pa.schema([(name, pa.large_string())]), read=columns)
    try:
        yield name
    finally:
        table.drop_columns([name])


def _one_text(parts: Sequence[Any]) -> str | None:
    texts = [_text_of(part) for part in parts]
    return "\n".join(map(str, texts)) if all(text is not None and str(text).strip() for text in texts) else None


def _text_of(part: Any) -> Any:
    if isinstance(part, bytes):
        return hashlib.sha256(part).hexdigest()
    return " ".join(map(str, part)) if isinstance(part, list) else part


def _prepared(table: Table, reports: list[CleaningReport]) -> Prepared:
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons.update(report.reasons)
    return Prepared(table, dict(reasons), [report.to_dict() for report in reports])


def _join_rejects(first: Path, second: Path, report: CleaningReport, leaks: CleaningReport) -> None:
    """Put the rejects of both cleanings beside the second table, all numbered as the first one's input."""
    if not report.rejected:
        return
    earlier = Table.open(rejects_path(first))
    if not leaks.rejected:
        Table.create(rejects_path(second), earlier.batches(), schema=earlier.schema, overwrite=True)
        return
    gone = np.sort(
        np.concatenate([batch.column(0).to_numpy(zero_copy_only=False) for batch in earlier.batches(["input_row"])])
    )
    before = gone - np.arange(len(gone))  # how many rows were kept before each one that went
    later = Table.open(rejects_path(second))

    def rows() -> Iterator[pa.RecordBatch]:
        yield from earlier.batches()
        for batch in later.batches(earlier.columns):
            columns = {name: batch.column(name) for name in earlier.columns}
            for name in ("input_row", "duplicate_of"):
                places = columns[name].fill_null(0).to_numpy(zero_copy_only=False)
                origin = places + np.searchsorted(before, places, side="right")
                columns[name] = pa.array(origin, pa.int64(), mask=np.asarray(columns[name].is_null()))
            yield pa.RecordBatch.from_arrays(list(columns.values()), schema=earlier.schema.remove_metadata())

    Table.create(rejects_path(second), rows(), schema=earlier.schema, overwrite=True)

"""Clean and split the rows of a run.

Rows that bring a ``split`` column are cleaned with it. Otherwise the whole table is cleaned first, so that no copies
are left to fall on both sides, then split, then checked for leakage (near copies with different labels may remain).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from deepseek.data import CleaningConfig, CleaningResult, SplitConfig, assign_splits, clean

SPLIT = "split"


@dataclass(frozen=True)
class Prepared:
    """Kept rows with a ``split`` column, rejected rows (``None`` without cleaning), reasons, and the full reports."""

    rows: pa.Table
    rejected: pa.Table | None
    reasons: dict[str, int]
    reports: list[dict[str, Any]]


def prepare(
    raw: pa.Table, cleaning: CleaningConfig | None, split: SplitConfig, *, text: str, label: str | None
) -> Prepared:
    """Clean ``raw`` as ``cleaning`` says (``None`` leaves it as it is) and give every row a split.

    Raises:
        DataError, UnknownNameError: as :func:`deepseek.data.clean` and :func:`deepseek.data.assign_splits`.
    """
    if cleaning is None:
        return Prepared(assign_splits(raw, split, text=text, label=label), None, {}, [])
    if SPLIT in raw.column_names:
        results = [clean(raw, cleaning, text=text, label=label, split=SPLIT)]
        rejected = results[0].rejected
        rows = assign_splits(results[0].kept, split, text=text, label=label)
    else:
        whole = clean(raw, cleaning, text=text, label=label, split=None)
        divided = assign_splits(whole.kept, split, text=text, label=label)
        leaks = clean(divided, cleaning, text=text, label=label, split=SPLIT)
        results, rows = [whole, leaks], leaks.kept
        rejected = pa.concat_tables([whole.rejected, _renumbered(leaks, whole, raw.num_rows)])
    reasons: Counter[str] = Counter()
    for result in results:
        reasons.update(result.report.reasons)
    return Prepared(rows, rejected, dict(reasons), [result.report.to_dict() for result in results])


def _renumbered(later: CleaningResult, earlier: CleaningResult, count: int) -> pa.Table:
    """The later rejects with the row numbers of the first input."""
    gone = set(earlier.rejected.column("input_row").to_pylist())
    origin = [row for row in range(count) if row not in gone]
    table = later.rejected.drop_columns([SPLIT])
    for name in ("input_row", "duplicate_of"):
        numbers = [None if row is None else origin[row] for row in table.column(name).to_pylist()]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(numbers, pa.int64()))
    return table

"""Steps over rows with one text: exact duplicates, and copies whose labels contradict each other.

Both look inside a split only. Copies in different splits are leakage, which is the training split's to resolve.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.step import Columns, Rejection, StepResult, keys_of, values_of

EXACT = "exact duplicate"
CONFLICT = "conflicting labels"


def exact_duplicates(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Keep the first row of each (split, text key, label)."""
    first: dict[tuple[Any, ...], int] = {}
    rejections = []
    splits, labels = values_of(table, columns.split), values_of(table, columns.label)
    for row, identity in enumerate(zip(splits, keys_of(table, columns), labels, strict=True)):
        kept = first.setdefault(identity, row)
        if kept != row:
            rejections.append(Rejection(row=row, reason=EXACT, duplicate_of=kept))
    return StepResult(table=table, rejections=rejections)


def conflicting_labels(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Reject the copies of a text whose labels differ: all of them, or all but the first."""
    groups: defaultdict[tuple[Any, str], list[int]] = defaultdict(list)
    splits, labels = values_of(table, columns.split), values_of(table, columns.label)
    for row, identity in enumerate(zip(splits, keys_of(table, columns), strict=True)):
        groups[identity].append(row)
    rejections = []
    for rows in groups.values():
        if len({labels[row] for row in rows}) < 2:
            continue
        first, *others = rows
        if config.conflicting_labels == "reject":
            rejections.append(Rejection(row=first, reason=CONFLICT))
        rejections += [Rejection(row=row, reason=CONFLICT, duplicate_of=first) for row in others]
    rejections.sort(key=lambda rejection: rejection.row)
    return StepResult(table=table, rejections=rejections)

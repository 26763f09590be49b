"""Steps over rows with one text: exact duplicates, and copies whose labels contradict each other.

Both look inside a split only. Copies in different splits are leakage, which is the training split's to resolve. Texts
are compared by the 128-bit hashes of their keys.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.groups import by, partitions, spread
from deepseek.data.cleaning.step import Columns, Rejection, Rows
from deepseek.data.cleaning.text_facts import HIGH, LABEL, LOW, SPLIT

EXACT = "exact duplicate"
CONFLICT = "conflicting labels"


def exact_duplicates(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Keep the first row of each (split, text key, label)."""
    return equal_rows(rows, HIGH, LOW, EXACT)


def equal_rows(rows: Rows, high: str, low: str, reason: str) -> Iterator[Rejection]:
    """Reject all but the first row of each (split, key, label), for a key that the two facts hold."""
    for facts in partitions(rows, high, low):
        ordered, starts = by(facts, HIGH, LOW, SPLIT, LABEL)
        first = ordered["row"][starts][spread(starts, len(ordered))]
        repeats = ordered["row"] != first
        for row, kept in zip(ordered["row"][repeats].tolist(), first[repeats].tolist(), strict=True):
            yield Rejection(row=row, reason=reason, duplicate_of=kept)


def conflicting_labels(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Reject the copies of a text whose labels differ: all of them, or all but the first."""
    return conflicts(rows, config, HIGH, LOW, CONFLICT)


def conflicts(rows: Rows, config: CleaningConfig, high: str, low: str, reason: str) -> Iterator[Rejection]:
    """Reject rows of a split with one key (in two facts) and different labels: all, or all but the first."""
    for facts in partitions(rows, high, low):
        ordered, starts = by(facts, HIGH, LOW, SPLIT)
        if not len(starts):
            continue
        labels = ordered[LABEL]
        differ = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
        group = spread(starts, len(ordered))
        first = ordered["row"][starts][group]
        for position in np.flatnonzero(differ[group]):
            row, kept = int(ordered["row"][position]), int(first[position])
            if row != kept:
                yield Rejection(row=row, reason=reason, duplicate_of=kept)
            elif config.conflicting_labels == "reject":
                yield Rejection(row=row, reason=reason)

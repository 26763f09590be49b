"""Rows grouped by a 128-bit key, out of core: partitions by key, each sorted in memory.

All rows of one key are in one partition, so what is found in a partition holds for the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepseek.data.cleaning.step import Rows
from deepseek.data.cleaning.text_facts import HELD_OUT, HIGH, LABEL, LOW, SPLIT

FIELDS = np.dtype([(HIGH, "u8"), (LOW, "u8"), (SPLIT, "u8"), (LABEL, "u8"), ("row", "i8"), (HELD_OUT, "?")])
PARTITION_ROWS = 500_000
Facts = np.ndarray[Any, Any]


def partitions(rows: Rows, high: str = HIGH, low: str = LOW) -> Iterator[Facts]:
    """Structured arrays of :data:`FIELDS`, each with all rows of its keys, in input order.

    ``high`` and ``low`` name the facts that hold the key.
    """
    count = -(-rows.count // PARTITION_ROWS)
    if count <= 1:
        yield np.concatenate([*_facts(rows, high, low), np.empty(0, FIELDS)])
        return
    paths = [rows.scratch / f"{high}-{number}" for number in range(count)]
    for facts in _facts(rows, high, low):
        # the high bits choose; within a partition rows stay in input order
        where = (facts[HIGH] >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)
        for number in np.unique(where):
            with paths[number].open("ab") as file:
                facts[where == number].tofile(file)
    for path in paths:
        if path.exists():
            yield _read(path)


def _facts(rows: Rows, high: str, low: str) -> Iterator[Facts]:
    for numbers, batch in rows.batches([high, low, SPLIT, LABEL, HELD_OUT]):
        facts = np.empty(len(numbers), FIELDS)
        facts["row"] = numbers
        for field, column in zip((HIGH, LOW, SPLIT, LABEL), batch.columns, strict=False):
            facts[field] = column.to_numpy()
        facts[HELD_OUT] = batch.column(4).to_numpy(zero_copy_only=False)
        yield facts


def _read(path: Path) -> Facts:
    facts = np.fromfile(path, FIELDS)
    path.unlink()
    return facts


def by(facts: Facts, *fields: str) -> tuple[Facts, np.ndarray[Any, np.dtype[np.int64]]]:
    """``facts`` sorted by the fields (stable, so in input order within a group), and where each group starts."""
    ordered = facts[np.lexsort([facts[field] for field in reversed(fields)])]
    new = np.ones(len(ordered), np.bool_)
    if len(ordered):
        new[1:] = np.any([ordered[field][1:] != ordered[field][:-1] for field in fields], axis=0)
    return ordered, np.flatnonzero(new)


def spread(starts: np.ndarray[Any, np.dtype[np.int64]], count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each of ``count`` sorted rows the number of its group."""
    group = np.zeros(count, np.int64)
    group[starts[1:]] = 1
    return np.cumsum(group)

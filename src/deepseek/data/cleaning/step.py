"""What every cleaning step takes and gives back.

A step is a pure function ``(table, columns, config) -> StepResult``. It names the rows to reject by their position in
the table that it was given; the pipeline removes them and translates positions to rows of the original input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.text_key import text_key


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns hold the text, the label and the split; label and split may be absent."""

    text: str
    label: str | None
    split: str | None


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A row to reject: its position, why, and the position of the row that it repeats (if it repeats one)."""

    row: int
    reason: str
    duplicate_of: int | None = None


@dataclass(kw_only=True)
class StepResult:
    """All rows as the step leaves them (``table``), which of them to reject, and how many texts it changed."""

    table: pa.Table
    rejections: list[Rejection] = field(default_factory=list)
    changed: int = 0

    def kept(self) -> pa.Table:
        """The rows that stay."""
        return self.table.filter(pa.array(self.kept_mask()))

    def rejected(self) -> pa.Table:
        """The rows that go, in table order."""
        return self.table.filter(pa.array(~self.kept_mask()))

    def kept_mask(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """One boolean a row: stays or not."""
        mask = np.ones(self.table.num_rows, dtype=np.bool_)
        mask[[rejection.row for rejection in self.rejections]] = False
        return mask


Step = Callable[[pa.Table, Columns, CleaningConfig], StepResult]


def keys_of(table: pa.Table, columns: Columns) -> list[str]:
    """The grouping key of each row's text."""
    return [text_key(text) for text in table.column(columns.text).to_pylist()]


def values_of(table: pa.Table, column: str | None) -> list[Any]:
    """The values of an optional column; all ``None`` when there is no such column."""
    return [None] * table.num_rows if column is None else table.column(column).to_pylist()

"""What a cleaning step takes and gives back.

There are two kinds, and the pipeline runs all of the first before any of the second:

* A *row step* looks at one row at a time, so that batches can be cleaned anywhere and in any order. It is a pure
  function ``(batch, columns, config) -> StepResult`` at the top level of a module (an engine sends it to its workers).
  It may change texts, reject rows, and note *facts*: compact columns that table steps read later, so that nothing
  expensive (decoding an image, hashing a text) is done twice.
* A *table step* compares rows with one another. It is a function ``(rows, columns, config) -> iterable of Rejection``.
  It reads :class:`Rows` batchwise, as often as it likes, and keeps at most a few dozen bytes a row in memory; whatever
  is larger goes to files in ``rows.scratch``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.engines import Engine

Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
RowNumbers: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns hold the text, the label, the split, an encoded image and an embedding; each may be absent."""

    text: str | None
    label: str | None
    split: str | None
    image: str | None = None
    vector: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A row to reject: its number, why, and the number of the row that it repeats (if it repeats one).

    ``reason`` is one of few, so that it can be counted; ``detail`` says what was measured on this row.

    Numbers are positions in the batch for a row step, and rows of the cleaner's input for a table step.
    """

    row: int
    reason: str
    duplicate_of: int | None = None
    detail: str = ""


@dataclass(kw_only=True)
class StepResult:
    """What a row step made of a batch.

    ``table`` holds all rows as the step leaves them, ``changed`` says how many kept texts it rewrote, ``facts`` are
    extra columns for table steps (one value a row of ``table``), and ``counts`` are findings that add up over batches
    and are shown in the report, such as how many e-mail addresses were masked.
    """

    table: pa.Table
    rejections: list[Rejection] = field(default_factory=list)
    changed: int = 0
    facts: Mapping[str, pa.Array] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def kept(self) -> pa.Table:
        """The rows that stay."""
        return self.table.filter(pa.array(self.kept_mask()))

    def rejected(self) -> pa.Table:
        """The rows that go, in table order."""
        return self.table.filter(pa.array(~self.kept_mask()))

    def kept_mask(self) -> Bools:
        """One boolean a row: stays or not."""
        mask = np.ones(self.table.num_rows, dtype=np.bool_)
        mask[[rejection.row for rejection in self.rejections]] = False
        return mask


class Rows(ABC):
    """The rows that are still kept, as a table step reads them.

    ``scratch`` is an empty folder for the step's files, removed when the step ends, ``shared`` one that lives as long
    as the cleaning; ``engine`` is where batches may be worked on in parallel; what the step puts into ``details``
    (plain values) is shown in its report.
    """

    scratch: Path
    shared: Path
    engine: Engine
    details: dict[str, Any]

    @property
    @abstractmethod
    def count(self) -> int:
        """How many rows are still kept."""

    @property
    @abstractmethod
    def total(self) -> int:
        """How many rows the cleaner was given: row numbers are below this."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns of the input, and the facts that the row steps noted."""

    @abstractmethod
    def batches(self, columns: Sequence[str]) -> Iterator[tuple[RowNumbers, pa.RecordBatch]]:
        """The kept rows in input order: their input-row numbers, ascending, and the columns asked for.

        Texts are as the row steps left them. Can be read again; memory is bounded by a batch.

        Raises:
            UnknownNameError: there is no such column or fact.
        """

    @abstractmethod
    def take(self, rows: RowNumbers, columns: Sequence[str]) -> pa.RecordBatch:
        """Some rows by input-row number (any order, repeats allowed), kept or not by later steps.

        Only for rows that passed the row steps.
        """

    @abstractmethod
    def mark(self, column: str, rows: RowNumbers, values: pa.Array) -> None:
        """Give the kept table a column: ``values`` in ``rows`` (ascending input-row numbers), null in all others."""


RowStep: TypeAlias = Callable[[pa.Table, Columns, CleaningConfig], StepResult]
TableStep: TypeAlias = Callable[[Rows, Columns, CleaningConfig], Iterable[Rejection]]


def values_of(table: pa.Table, column: str | None) -> list[Any]:
    """The values of an optional column; all ``None`` when there is no such column."""
    return [None] * table.num_rows if column is None else table.column(column).to_pylist()

"""What is kept of a column, batch by batch: the common ground, and columns of numbers, times and booleans.

A column sketch has ``update(array)``, ``merge(other)`` and ``result()``. Sketches are small, can be pickled, and merge
to the same result however the rows were cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.profiles import arrow_values
from deepseek.data.profiles.sketches import Floats, Histogram, Moments

BINS = 10
FINE_BINS = 100
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class ColumnSketch:
    """Counts only: for types that there is nothing more to say about. The base of the others."""

    kind = "other"

    def __init__(self) -> None:
        self.count = 0
        self.nulls = 0

    def update(self, array: pa.Array) -> None:
        """Add the values of an array of the column's type."""
        array = arrow_values.plain(array)
        self.nulls += array.null_count
        self.count += len(array) - array.null_count
        present = array.drop_null() if array.null_count else array
        if len(present):
            self._present(present)

    def _present(self, array: pa.Array) -> None:
        """Add values, none of them null."""

    def merge(self, other: Any) -> None:
        """Add what a sketch of the same kind has seen."""
        self.nulls += other.nulls
        self.count += other.count

    def result(self) -> dict[str, Any]:
        """The JSON of this column."""
        return {"kind": self.kind, "count": self.count, "nulls": self.nulls}


class BooleanSketch(ColumnSketch):
    """How many are true."""

    kind = "boolean"

    def __init__(self) -> None:
        super().__init__()
        self.true = 0

    def _present(self, array: pa.Array) -> None:
        self.true += int(pc.sum(array).as_py() or 0)

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.true += other.true

    def result(self) -> dict[str, Any]:
        return {**super().result(), "top": {"true": self.true, "false": self.count - self.true}}


class NumberSketch(ColumnSketch):
    """Moments, quantiles and bins of the finite values."""

    kind = "number"

    def __init__(self) -> None:
        super().__init__()
        self.nan = 0
        self.moments = Moments()
        self.histogram: Any = Histogram()  # or Cuts, when values are counted between a reference's edges

    def _present(self, array: pa.Array) -> None:
        self.numbers(arrow_values.numbers(array))

    def numbers(self, values: Floats) -> None:
        """Add numbers that are in NumPy already; ``count`` is the caller's."""
        finite = np.isfinite(values)
        if not finite.all():
            self.nan += int(len(values) - finite.sum())
            values = values[finite]
        self.moments.update(values)
        self.histogram.update(values)

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.nan += other.nan
        self.moments.merge(other.moments)
        self.histogram.merge(other.histogram)

    def result(self) -> dict[str, Any]:
        return {**super().result(), "nan": self.nan, **self.described()}

    def described(self) -> dict[str, Any]:
        """What is known of the finite values; nothing when there are none."""
        if not self.moments.count:
            return {}
        low, high = self.moments.low, self.moments.high
        edges, counts = self.histogram.bins(BINS, low, high)
        fine_edges, fine_counts = self.histogram.bins(FINE_BINS, low, high)
        return {
            "min": low,
            "max": high,
            "mean": float(self.moments.mean),
            "std": self.moments.std,
            "distinct": self.histogram.distinct,
            "quantiles": {str(q): min(max(self.histogram.quantile(q), low), high) for q in QUANTILES},
            "edges": edges,
            "counts": counts,
            "fine": {"edges": fine_edges, "counts": fine_counts},
        }


class TimeSketch(NumberSketch):
    """Times and dates as seconds since 1970 in UTC (times without a zone are taken as UTC)."""

    kind = "time"

    def result(self) -> dict[str, Any]:
        described = super().result()
        if "min" in described:
            described |= {"first": arrow_values.iso(described["min"]), "last": arrow_values.iso(described["max"])}
        return described

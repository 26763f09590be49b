"""What is kept of a column of each kind, batch by batch, and how it becomes JSON.

A column sketch has ``update(array)``, ``merge(other)`` and ``result()``. They are small, can be pickled, and merge to
the same result however the rows were cut. :func:`sketch_for` picks one for an Arrow type.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.profiles import arrow_values
from deepseek.data.profiles.hashing import contents, hashed, signs
from deepseek.data.profiles.sketches import Distinct, Floats, Histogram, Moments

BINS = 10
FINE_BINS = 100
LOW_CARDINALITY = 100
KEPT_HASHES = 256
HASH_BUCKETS = 64
GRAM_BUCKETS = 256
GRAM_BYTES = 512
DIRECTIONS = 8
LENGTH_EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Left edges of the text-length bins, in characters; the last bin is open to the right."""
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


class TextSketch(ColumnSketch):
    """Lengths, number of distinct values, the values themselves while they are few, and hashed counts for drift."""

    kind = "text"

    def __init__(self) -> None:
        super().__init__()
        self.lengths = np.zeros(len(LENGTH_EDGES), dtype=np.int64)
        self.characters = 0
        self.low: int | None = None
        self.high = 0
        self.top: Counter[str] | None = Counter()
        self.distinct = Distinct()
        self.hashed = np.zeros(HASH_BUCKETS, dtype=np.int64)
        self.grams = np.zeros(GRAM_BUCKETS, dtype=np.int64)

    def _present(self, array: pa.Array) -> None:
        counted = pc.value_counts(array)
        values, counts = counted.field("values"), np.asarray(counted.field("counts"))
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        lengths = np.asarray(pc.utf8_length(values), dtype=np.int64)
        bins = np.searchsorted(LENGTH_EDGES[1:], lengths, side="right")
        self.lengths += _weighed(bins, counts, len(self.lengths))
        self.characters += int(np.dot(lengths, counts))
        self.low = int(lengths.min()) if self.low is None else min(self.low, int(lengths.min()))
        self.high = max(self.high, int(lengths.max()))
        hashes = hashed(values)
        self.distinct.update(hashes)
        # The distinct sketch keeps the least hashes, so buckets come from the other end of the word
        self.hashed += _weighed((hashes % HASH_BUCKETS).astype(np.int64), counts, HASH_BUCKETS)
        self.grams += _grams(values, counts)
        if self.top is not None:
            if len(values) > LOW_CARDINALITY:
                self.top = None
            else:
                self._remember(dict(zip(values.to_pylist(), counts.tolist(), strict=True)))

    def _remember(self, more: dict[str, int] | None) -> None:
        if self.top is None or more is None:
            self.top = None
            return
        self.top.update(more)
        if len(self.top) > LOW_CARDINALITY:
            self.top = None

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.lengths += other.lengths
        self.characters += other.characters
        lows = [low for low in (self.low, other.low) if low is not None]
        self.low, self.high = min(lows, default=None), max(self.high, other.high)
        self.distinct.merge(other.distinct)
        self.hashed += other.hashed
        self.grams += other.grams
        self._remember(other.top)

    def result(self) -> dict[str, Any]:
        length: dict[str, Any] = {"edges": list(LENGTH_EDGES), "counts": self.lengths.tolist()}
        if self.count:
            length |= {"min": self.low, "max": self.high, "mean": self.characters / self.count}
        top = None if self.top is None else dict(sorted(self.top.items(), key=lambda item: (-item[1], item[0])))
        return {
            **super().result(),
            "length": length,
            "distinct": self.distinct.estimate(self.count),
            "distinct_is_exact": self.distinct.exact,
            "top": top,
            "hashed": self.hashed.tolist(),
            "grams": self.grams.tolist(),
            "least_hashes": [f"{word:016x}" for word in self.distinct.least[:KEPT_HASHES].tolist()],
        }


def _weighed(places: Any, weights: Any, length: int) -> Any:
    return np.rint(np.bincount(places, weights=weights, minlength=length)).astype(np.int64)


def _grams(values: pa.Array, counts: Any) -> Any:
    """Counts of hashed runs of three bytes in the first ``GRAM_BYTES`` of each text: letters of any script and language
    without a tokenizer (a Chinese character is three bytes of UTF-8)."""
    wide = pc.binary_slice(values.cast(pa.large_binary()), 0, GRAM_BYTES)
    lengths = np.asarray(pc.binary_length(wide), dtype=np.int64)
    data, _ = contents(wide)
    if len(data) < 3:
        return np.zeros(GRAM_BUCKETS, dtype=np.int64)
    codes = data.astype(np.uint32)
    # Multiplicative hashing (Knuth): the upper 8 bits of the product
    codes = (codes[:-2] << np.uint32(16) | codes[1:-1] << np.uint32(8) | codes[2:]) * np.uint32(2654435761)
    owner = np.repeat(np.arange(len(wide)), lengths)
    inside = owner[:-2] == owner[2:]
    return _weighed((codes[inside] >> np.uint32(24)).astype(np.int64), counts[owner[:-2][inside]], GRAM_BUCKETS)


class BlobSketch(ColumnSketch):
    """Sizes in bytes, and the formats that the first bytes tell. Blobs that are stored apart are not read for it."""

    kind = "blob"

    def __init__(self) -> None:
        super().__init__()
        self.size = NumberSketch()
        self.formats: Counter[str] = Counter()

    def _present(self, array: pa.Array) -> None:
        if pa.types.is_struct(array.type):  # a description: where the bytes lie and how many they are
            sizes = array.field("size")
        else:
            sizes = pc.binary_length(array)
            self.formats.update(arrow_values.formats(array))
        self.size.update(sizes)

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.size.merge(other.size)
        self.formats.update(other.formats)

    def result(self) -> dict[str, Any]:
        top = dict(sorted(self.formats.items(), key=lambda item: (-item[1], item[0])))
        return {**super().result(), "size": self.size.described(), "formats": top or None}


class VectorSketch(ColumnSketch):
    """Norms, the mean and variance of each dimension, and the distribution along a few fixed random directions."""

    kind = "vector"

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.bad = 0
        self.used = 0
        self.mean = np.zeros(dimension)
        self.squares = np.zeros(dimension)
        self.norm = NumberSketch()
        self.along = [NumberSketch() for _ in range(DIRECTIONS)]

    def _present(self, array: pa.Array) -> None:
        matrix = arrow_values.matrix(array, self.dimension)
        finite = np.isfinite(matrix).all(axis=1)
        if not finite.all():
            self.bad += int(len(matrix) - finite.sum())
            matrix = matrix[finite]
        if not len(matrix):
            return
        mean = matrix.mean(axis=0)
        self._moments(len(matrix), mean, ((matrix - mean) ** 2).sum(axis=0))
        self.norm.numbers(np.sqrt(np.einsum("ij,ij->i", matrix, matrix)))
        projected = matrix @ signs(self.dimension, DIRECTIONS)
        for sketch, values in zip(self.along, projected.T, strict=True):
            sketch.numbers(np.ascontiguousarray(values))

    def _moments(self, count: int, mean: Floats, squares: Floats) -> None:
        total, delta = self.used + count, mean - self.mean
        self.squares = self.squares + squares + delta**2 * (self.used * count / total)
        self.mean = self.mean + delta * (count / total)
        self.used = total

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.bad += other.bad
        if other.used:
            self._moments(other.used, other.mean, other.squares)
        self.norm.merge(other.norm)
        for mine, theirs in zip(self.along, other.along, strict=True):
            mine.merge(theirs)

    def result(self) -> dict[str, Any]:
        described: dict[str, Any] = {**super().result(), "dimension": self.dimension, "not_finite": self.bad}
        if self.used:
            described["mean"] = self.mean.tolist()
            described["std"] = np.sqrt(np.maximum(self.squares / self.used, 0)).tolist()
            described["norm"] = self.norm.described()
            described["along"] = [sketch.described()["fine"] for sketch in self.along]
        return described


class ListSketch(ColumnSketch):
    """Lengths of the lists, and their items as a column of their own."""

    kind = "list"

    def __init__(self, items: ColumnSketch) -> None:
        super().__init__()
        self.length = NumberSketch()
        self.items = items

    def _present(self, array: pa.Array) -> None:
        self.length.update(pc.list_value_length(array))
        self.items.update(array.flatten())

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.length.merge(other.length)
        self.items.merge(other.items)

    def result(self) -> dict[str, Any]:
        return {**super().result(), "length": self.length.described(), "items": self.items.result()}


class StructSketch(ColumnSketch):
    """Each field as a column of its own."""

    kind = "struct"

    def __init__(self, fields: dict[str, ColumnSketch]) -> None:
        super().__init__()
        self.fields = fields

    def _present(self, array: pa.Array) -> None:
        for sketch, child in zip(self.fields.values(), array.flatten(), strict=True):
            sketch.update(child)

    def merge(self, other: Any) -> None:
        super().merge(other)
        for name, sketch in self.fields.items():
            sketch.merge(other.fields[name])

    def result(self) -> dict[str, Any]:
        return {**super().result(), "fields": {name: sketch.result() for name, sketch in self.fields.items()}}


def sketch_for(field: pa.Field) -> ColumnSketch:
    """An empty sketch for a column of this name, type and metadata."""
    kind = arrow_values.storage(field.type)
    if arrow_values.is_stored_blob(field):
        return BlobSketch()
    if arrow_values.is_text(kind):
        return TextSketch()
    if pa.types.is_boolean(kind):
        return BooleanSketch()
    if arrow_values.is_time(kind):
        return TimeSketch()
    if arrow_values.is_number(kind):
        return NumberSketch()
    if arrow_values.is_bytes(kind):
        return BlobSketch()
    if arrow_values.is_vector(kind):
        return VectorSketch(kind.list_size)
    if arrow_values.is_list(kind):
        return ListSketch(sketch_for(kind.value_field))
    if pa.types.is_struct(kind):
        return StructSketch({child.name: sketch_for(child) for child in kind})
    return ColumnSketch()

"""What is kept of a column of texts or categories."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.profiles.column_sketch import ColumnSketch
from deepseek.data.profiles.hashing import contents, hashed
from deepseek.data.profiles.sketches import Distinct

LOW_CARDINALITY = 100
KEPT_HASHES = 256
HASH_BUCKETS = 64
GRAM_BUCKETS = 256
GRAM_BYTES = 512
LENGTH_EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Left edges of the text-length bins, in characters; the last bin is open to the right."""


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
    buckets = codes >> np.uint32(24)
    ends = np.cumsum(lengths)
    crossing = np.concatenate([ends - 1, ends - 2])  # runs that begin here would reach into the next text
    inside = np.ones(len(codes), dtype=bool)
    inside[crossing[(crossing >= 0) & (crossing < len(codes))]] = False
    if (counts == 1).all():
        return np.bincount(buckets[inside], minlength=GRAM_BUCKETS)
    return _weighed(buckets[inside], np.repeat(counts, lengths)[:-2][inside], GRAM_BUCKETS)

"""Summaries of many values in little memory that can be merged: parts summed up apart give what the whole would.

* :class:`Histogram` depends only on the values, not on their order or on how they were cut into parts.
* :class:`Distinct` too (k minimum values: Bar-Yossef et al. 2002).
* :class:`Moments` up to rounding in extended precision (Chan et al. 1983).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from deepseek.data.profiles.hashing import Words

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
_TOP = np.uint64(1 << 63)


class Histogram:
    """Counts of finite numbers in at most ``limit`` buckets that adapt to the values.

    A float64 whose bits are read as an integer (negative ones inverted) keeps its order. A bucket is all values whose
    integers agree but for the last ``level`` bits; the level starts at 0 (every value has its own bucket) and rises
    only while there are more than ``limit`` buckets. A part of the values never needs a higher level than all of them,
    so any order of updates and merges ends in the same buckets. Bucket borders are relative to the value's size, like
    those of DDSketch (Masson et al. 2019), yet numbers that lie close together (years, times) keep a fine resolution.
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self.level = 0
        self.keys: Words = np.empty(0, dtype=np.uint64)
        self.counts: Counts = np.empty(0, dtype=np.int64)

    def update(self, values: Floats) -> None:
        """Add finite values, any order."""
        if not len(values):
            return
        bits = (values + 0.0).view(np.uint64)  # -0.0 becomes 0.0
        keys = np.where(bits & _TOP, ~bits, bits | _TOP) >> np.uint64(self.level)
        keys.sort()
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        self._add(keys[starts], np.diff(starts, append=len(keys)))

    def merge(self, other: Histogram) -> None:
        """Add another histogram's values to this one."""
        if other.level > self.level:
            self._raise_to(other.level)
        keys, counts = _coarser(other.keys, other.counts, self.level - other.level)
        self._add(keys, counts)

    def _add(self, keys: Words, counts: Counts) -> None:
        if len(self.keys):
            both, inverse = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
            total = np.zeros(len(both), dtype=np.int64)
            np.add.at(total, inverse, np.concatenate([self.counts, counts]))
            keys, counts = both, total
        self.keys, self.counts = keys, counts
        if len(keys) > self.limit:
            differing = keys[1:] ^ keys[:-1]
            rise = next(n for n in range(1, 65) if np.count_nonzero(differing >> np.uint64(n)) < self.limit)
            self._raise_to(self.level + rise)

    def _raise_to(self, level: int) -> None:
        self.keys, self.counts = _coarser(self.keys, self.counts, level - self.level)
        self.level = level

    @property
    def distinct(self) -> int | None:
        """How many values differ; ``None`` when they are too many to tell."""
        return len(self.keys) if self.level == 0 else None

    def lows(self) -> Floats:
        """The smallest number of each bucket."""
        keys = self.keys << np.uint64(self.level)
        return np.where(keys & _TOP, keys ^ _TOP, ~keys).view(np.float64)

    def bins(self, number: int, low: float, high: float) -> tuple[list[float], list[int]]:
        """At most ``number`` bins of about equal count: edges from ``low`` to ``high`` and the exact counts.

        ``counts[i]`` values lie in ``[edges[i], edges[i + 1])``, the last bin closed. Equal values share a bin.
        """
        if not len(self.keys):
            return [], []
        before = np.concatenate([[0], np.cumsum(self.counts)])
        targets = before[-1] * np.arange(1, number) / number
        right = np.searchsorted(before, targets)
        left = right - 1
        nearest = np.where(before[right] - targets <= targets - before[left], right, left)
        starts = np.unique(np.concatenate([[0], nearest[(nearest > 0) & (nearest < len(self.keys))]]))
        edges = [low, *self.lows()[starts[1:]].tolist(), high]
        return edges, np.add.reduceat(self.counts, starts).tolist()

    def quantile(self, share: float) -> float:
        """The value below which ``share`` of the values lie, to within its bucket."""
        place = int(np.searchsorted(np.cumsum(self.counts), share * int(self.counts.sum())))
        return float(self.lows()[min(place, len(self.keys) - 1)])


class Cuts:
    """Counts of numbers between fixed edges, those outside in the outer bins: what lies between a reference's edges.

    ``outside`` are the values beyond the outer edges. ``unknown`` are those that equal no edge: where a reference has
    few distinct values, each has an edge, and these are values that it does not have.
    """

    distinct: int | None = None

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges: Floats = np.asarray(edges, dtype=np.float64)
        self.counts: Counts = np.zeros(max(len(self.edges) - 1, 1), dtype=np.int64)
        self.outside = 0
        self.unknown = 0

    def update(self, values: Floats) -> None:
        """Add finite values."""
        if len(values):
            places = np.searchsorted(self.edges[1:-1], values, side="right")
            self.counts += np.bincount(places, minlength=len(self.counts))
            self.outside += int(((values < self.edges[0]) | (values > self.edges[-1])).sum())
            known = (values == self.edges[places]) | (values == self.edges[-1])
            self.unknown += int(len(values) - known.sum())

    def merge(self, other: Cuts) -> None:
        """Add counts between the same edges."""
        self.counts += other.counts
        self.outside += other.outside
        self.unknown += other.unknown


def _coarser(keys: Words, counts: Counts, rise: int) -> tuple[Words, Counts]:
    if not rise or not len(keys):
        return keys, counts
    keys = keys >> np.uint64(rise) if rise < 64 else np.zeros_like(keys)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(counts, starts)


@dataclass
class Moments:
    """Count, mean and variance of numbers, their least and greatest; extended precision inside."""

    count: int = 0
    mean: Any = field(default_factory=lambda: np.longdouble(0))
    squares: Any = field(default_factory=lambda: np.longdouble(0))
    low: float = math.inf
    high: float = -math.inf

    def update(self, values: Floats) -> None:
        """Add finite values."""
        if not len(values):
            return
        mean = values.sum(dtype=np.longdouble) / len(values)
        centred = values - float(mean)
        squares = np.dot(centred, centred) - len(values) * (mean - float(mean)) ** 2
        self.merge(Moments(len(values), mean, squares, float(values.min()), float(values.max())))

    def merge(self, other: Moments) -> None:
        """Add another part's values."""
        if not other.count:
            return
        total, delta = self.count + other.count, other.mean - self.mean
        with np.errstate(over="ignore"):  # values near the largest float: the variance is then infinite, and says so
            self.squares = self.squares + other.squares + delta**2 * self.count * other.count / total
        self.mean = self.mean + delta * other.count / total
        self.count = total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    @property
    def std(self) -> float:
        """The standard deviation of the population."""
        return math.sqrt(max(float(self.squares / self.count), 0.0)) if self.count else 0.0


class Distinct:
    """About how many hashes differ (standard error 3% at 1,024 kept), exact while all of them fit."""

    def __init__(self, size: int = 1024) -> None:
        self.size = size
        self.least: Words = np.empty(0, dtype=np.uint64)

    def update(self, hashes: Words) -> None:
        """Add hashes, any order, repeated or not."""
        if len(self.least) == self.size:
            hashes = hashes[hashes < self.least[-1]]
        if len(hashes):
            self.least = np.unique(np.concatenate([self.least, hashes]))[: self.size]

    def merge(self, other: Distinct) -> None:
        """Add what another one has seen."""
        self.update(other.least)

    @property
    def exact(self) -> bool:
        """Whether :meth:`estimate` is exact."""
        return len(self.least) < self.size

    def estimate(self, most: int) -> int:
        """How many differ, never more than ``most``."""
        if self.exact:
            return len(self.least)
        return min(round((self.size - 1) / (float(self.least[-1]) / 2**64)), most)

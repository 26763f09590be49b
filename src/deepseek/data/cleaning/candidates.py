"""Which rows are similar to which, for very many rows: candidates by band, verified, and resolved in row order.

The same for texts, images and vectors: a :class:`Measure` knows when two are similar, and the caller gives codes, band
by band, of which similar rows are likely (or sure) to share one. One band after the other, rows are sorted by their
code, and those with one code form a bucket. All pairs of a small bucket become candidates, unless the measure rules
them out at a glance; what is left is collected over the bands without repeats and verified in blocks. Large buckets
(boilerplate, templates, blank images) would make quadratically many pairs: their rows are compared in another way,
which the measure knows, and a row that repeats another is never compared again.

Memory: some 20 bytes a row, ranges of codes and blocks of pairs of fixed size, and 8 bytes a similar pair.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from deepseek.data.cleaning.shingles import Bools, Hashes, Integers

SMALL_BUCKET = 32
BLOCK_PAIRS = 1 << 13
GLANCED_PAIRS = 1 << 17
BUFFER_PAIRS = 1 << 20
RANGE_ROWS = 1 << 19


class Large(ABC):
    """The rows of large buckets."""

    @abstractmethod
    def similar(self, row: int, open_: Bools) -> Integers:
        """Which of these rows that are still open (one boolean for each row that there is) are similar to ``row``."""


class Measure(ABC):
    """When rows are similar; rows are 0 to ``count - 1``, in input order."""

    count: int

    @abstractmethod
    def possible(self, left: Integers, right: Integers) -> Bools:
        """Which pairs may be similar, quickly; must never rule out a similar pair."""

    @abstractmethod
    def similar(self, left: Integers, right: Integers) -> Bools:
        """Which pairs are similar, for up to ``BLOCK_PAIRS`` pairs."""

    @abstractmethod
    def large(self, rows: Integers) -> Large:
        """Prepare the rows of large buckets (ascending)."""


class Candidates:
    """Collects candidates from bands, then says for each row which one it repeats.

    Args:
        held_out: one boolean a row; with it, only a held-out row and another one are compared with each other.
    """

    def __init__(self, measure: Measure, held_out: Bools | None = None) -> None:
        self._measure, self._count, self._held_out = measure, measure.count, held_out
        self._buffer: list[Integers] = []
        self._buffered = 0
        self._similar = np.empty(0, np.int64)
        self._large = np.zeros(self._count, np.bool_)

    def add_band(self, codes: Hashes) -> None:
        """Take in one band's codes, one a row."""
        ranges = -(-self._count // RANGE_ROWS)
        for number in range(ranges):
            if ranges == 1:
                rows, part = np.arange(self._count), codes
            else:
                rows = np.flatnonzero(codes % np.uint64(ranges) == number)
                part = codes[rows]
            for members in self._small_buckets(rows, part):
                self._add_pairs(members)

    def _small_buckets(self, rows: Integers, codes: Hashes) -> Iterator[Integers]:
        """Matrices of rows, one bucket a line and one matrix a bucket size; rows of large buckets are noted."""
        order = np.argsort(codes)
        ordered = codes[order]
        new = np.ones(len(ordered), np.bool_)
        np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
        starts = np.flatnonzero(new)
        sizes = np.diff(np.append(starts, len(ordered)))
        for size in np.unique(sizes[sizes > 1]).tolist():
            chosen = starts[sizes == size]
            if size > SMALL_BUCKET:
                for start in chosen.tolist():
                    self._large[rows[order[start : start + size]]] = True
            else:
                yield rows[order[chosen[:, None] + np.arange(size)]]

    def _add_pairs(self, members: Integers) -> None:
        first, second = np.triu_indices(members.shape[1], 1)
        step = max(1, GLANCED_PAIRS // len(first))
        for start in range(0, len(members), step):
            a, b = (members[start : start + step, chosen].ravel() for chosen in (first, second))
            left, right = np.minimum(a, b), np.maximum(a, b)
            if (held_out := self._held_out) is not None:
                mixed = held_out[left] != held_out[right]
                left, right = left[mixed], right[mixed]
            alike = self._measure.possible(left, right)
            left, right = left[alike], right[alike]
            self._buffer.append(left * self._count + right)
            self._buffered += len(left)
            if self._buffered >= BUFFER_PAIRS:
                self._flush()

    def _flush(self) -> None:
        pairs = np.sort(np.concatenate([*self._buffer, np.empty(0, np.int64)]))
        pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
        pairs = np.setdiff1d(pairs, self._similar, assume_unique=True)
        self._buffer, self._buffered = [], 0
        found = [self._similar]
        for start in range(0, len(pairs), BLOCK_PAIRS):
            block = pairs[start : start + BLOCK_PAIRS]
            found.append(block[self._measure.similar(block // self._count, block % self._count)])
        self._similar = np.sort(np.concatenate(found))

    def first_similar(self, eligible: Bools | None = None) -> Integers:
        """For each row the first one that it repeats, or -1.

        Without held-out rows they are taken in order, and one that is similar to an earlier row that stays repeats it
        and goes. Otherwise an eligible row repeats the first held-out row that it is similar to.
        """
        self._flush()
        held_out = self._held_out
        owner = np.full(self._count, -1, np.int64)
        left, right = self._similar // self._count, self._similar % self._count
        if held_out is not None:
            swapped = held_out[right]
            left, right = np.where(swapped, right, left), np.where(swapped, left, right)
            order = np.argsort(left, kind="stable")
            left, right = left[order], right[order]
        open_ = np.ones(self._count, np.bool_) if held_out is None else ~held_out
        if eligible is not None:
            open_ &= eligible
        large = None
        rows = np.unique(left)
        if self._large.any():
            members = np.flatnonzero(self._large)
            large = self._measure.large(members)
            rows = np.union1d(rows, members if held_out is None else members[held_out[members]])
        begins, ends = np.searchsorted(left, rows), np.searchsorted(left, rows, side="right")
        for row, begin, end in zip(rows.tolist(), begins.tolist(), ends.tolist(), strict=True):
            if held_out is None:
                if not open_[row]:
                    continue  # it goes itself
                open_[row] = False
            for other in right[begin:end].tolist():
                if open_[other]:
                    owner[other], open_[other] = row, False
            if large is not None and self._large[row]:
                others = large.similar(row, open_)
                owner[others], open_[others] = row, False
        return owner

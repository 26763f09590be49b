"""Which texts are similar to which, for very many texts: candidates by band, verified, and resolved in row order.

One band after the other: texts are sorted by their code in it, and those with one code form a bucket. All pairs of a
small bucket become candidates; they are collected over the bands without repeats and verified in blocks. Large buckets
(boilerplate, templates) would make quadratically many pairs, so their texts go to :mod:`large_buckets` instead.

Memory: about 40 bytes a text at a time, and blocks of fixed size; signatures lie in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.large_buckets import LargeBuckets
from deepseek.data.cleaning.shingles import Hashes, Integers, bitmaps, common, shingle_sets

Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
Keys: TypeAlias = Callable[[Integers], pa.Array]

SMALL_BUCKET = 32
BLOCK_PAIRS = 1 << 15
BUFFER_PAIRS = 1 << 21
RANGE_TEXTS = 1 << 23


class Candidates:
    """Texts 0 to ``count - 1`` in row order; ``keys`` gives the keys of some of them.

    Args:
        threshold: the least Jaccard similarity, in (0, 1].
        length: of the shingles.
        groups: a number for each text; texts of different groups are not compared.
    """

    def __init__(self, count: int, keys: Keys, *, threshold: float, length: int, groups: Hashes | None = None) -> None:
        self._count, self._keys, self._groups = count, keys, groups
        self._threshold, self._length = threshold, length
        self._buffer: list[Integers] = []
        self._buffered = 0
        self._similar = np.empty(0, np.int64)
        self._large = np.zeros(count, np.bool_)

    def add_band(self, codes: Hashes, held_out: Bools | None) -> None:
        """Take in one band's codes (one a text). With ``held_out``, only pairs of a held-out and another text count."""
        ranges = -(-self._count // RANGE_TEXTS)
        for number in range(ranges):
            if ranges == 1:
                texts, part = np.arange(self._count), codes
            else:
                texts = np.flatnonzero(codes % np.uint64(ranges) == number)
                part = codes[texts]
            for members in self._small_buckets(texts, part):
                self._add_pairs(members, held_out)

    def _small_buckets(self, texts: Integers, codes: Hashes) -> Iterator[Integers]:
        """Matrices of texts, one bucket a row and one matrix a bucket size; texts of large buckets are noted."""
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
                    self._large[texts[order[start : start + size]]] = True
            else:
                yield texts[order[chosen[:, None] + np.arange(size)]]

    def _add_pairs(self, members: Integers, held_out: Bools | None) -> None:
        first, second = np.triu_indices(members.shape[1], 1)
        step = max(1, BUFFER_PAIRS // len(first))
        for start in range(0, len(members), step):
            a, b = (members[start : start + step, chosen].ravel() for chosen in (first, second))
            left, right = np.minimum(a, b), np.maximum(a, b)
            if held_out is not None:
                mixed = held_out[left] != held_out[right]
                left, right = left[mixed], right[mixed]
            self._buffer.append(left * self._count + right)
            self._buffered += len(left)
            if self._buffered >= BUFFER_PAIRS:
                self._flush()

    def _flush(self) -> None:
        pairs = np.unique(np.concatenate([*self._buffer, np.empty(0, np.int64)]))
        pairs = np.setdiff1d(pairs, self._similar, assume_unique=True)
        self._buffer, self._buffered = [], 0
        found = [self._similar]
        for start in range(0, len(pairs), BLOCK_PAIRS):
            block = pairs[start : start + BLOCK_PAIRS]
            found.append(block[self._verified(block // self._count, block % self._count)])
        self._similar = np.sort(np.concatenate(found))

    def _verified(self, left: Integers, right: Integers) -> Bools:
        """Which pairs have at least the threshold's similarity."""
        texts, back = np.unique(np.concatenate([left, right]), return_inverse=True)
        hashes, offsets = shingle_sets(self._keys(texts), self._length)
        starts, sizes = offsets[:-1], np.diff(offsets)
        left, right = back[: len(left)], back[len(left) :]
        maps = bitmaps(hashes, offsets)
        alike = not_ruled_out(maps[left], maps[right], sizes[left] + sizes[right], self._threshold)
        good = np.flatnonzero(alike)
        alike[good] = similar_pairs(hashes, starts, sizes, left[good], right[good], self._threshold)
        return alike

    def first_similar(self, held_out: Bools | None, eligible: Bools | None = None) -> Integers:
        """For each text the first one that it repeats, or -1.

        Without ``held_out`` the texts are taken in order, and one that is similar to an earlier text that stays repeats
        it and goes. With it, an eligible text repeats the first held-out text that it is similar to.
        """
        self._flush()
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
        texts = np.unique(left)
        if self._large.any():
            members = np.flatnonzero(self._large)
            large = LargeBuckets(
                members,
                self._keys,
                threshold=self._threshold,
                length=self._length,
                groups=None if self._groups is None else self._groups[members],
            )
            texts = np.union1d(texts, members if held_out is None else members[held_out[members]])
        begins, ends = np.searchsorted(left, texts), np.searchsorted(left, texts, side="right")
        for text, begin, end in zip(texts.tolist(), begins.tolist(), ends.tolist(), strict=True):
            if held_out is None:
                if not open_[text]:
                    continue  # it goes itself
                open_[text] = False
            for other in right[begin:end].tolist():
                if open_[other]:
                    owner[other], open_[other] = text, False
            if large is not None and self._large[text]:
                others = large.similar(text, open_)
                owner[others], open_[others] = text, False
        return owner


def not_ruled_out(left: Hashes, right: Hashes, sizes: Integers, threshold: float) -> Bools:
    """Whether sets with these bitmaps, of so many elements together, can have the threshold's similarity."""
    differing = np.bitwise_count(left ^ right).sum(axis=-1, dtype=np.int64)
    return differing <= (1 - threshold) / (1 + threshold) * sizes + 1e-6


def similar_pairs(
    hashes: Hashes, starts: Integers, sizes: Integers, left: Integers, right: Integers, threshold: float
) -> Bools:
    """Whether each pair of sets has at least the threshold's Jaccard similarity."""
    shared = common(hashes, starts, sizes, left, right)
    good: Bools = shared / (sizes[left] + sizes[right] - shared) >= threshold
    return good

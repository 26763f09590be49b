"""The exact similarity join for texts of large buckets: boilerplate and templates.

Candidates come from prefix filtering (Xiao, Wang, Lin & Yu, Efficient similarity joins for near duplicate detection,
WWW 2008): when every text's shingles are ordered from the rarest to the most frequent, two texts of a given similarity
must share one of their first few. Texts made from one template share its shingles, but these are frequent and hardly
ever among the first, so texts with different content do not meet. Bitmaps then rule out most of the rest. Nothing is
lost by any of it. Texts that are all alike do meet, and the first of them takes the others out of the game at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepseek.data.cleaning.candidates import Large
from deepseek.data.cleaning.shingles import Bools, Hashes, Integers, not_ruled_out, shingle_sets, similar_pairs
from deepseek.data.cleaning.signatures import Signatures

_BLOCK = 4096
_TABLE_BITS = 22
_PAIRS = 1 << 13


class LargeBuckets(Large):
    """The texts ``members`` (ascending), of which :meth:`similar` finds the ones similar to a given one."""

    def __init__(
        self,
        members: Integers,
        signatures: Signatures,
        *,
        threshold: float,
        length: int,
        groups: Hashes | None,
    ) -> None:
        self._members, self._threshold = members, threshold
        self._maps, self._sizes = signatures.maps[members], signatures.sizes[members]
        self._starts = np.cumsum(self._sizes) - self._sizes
        path = signatures.scratch / "large_buckets"
        with path.open("wb") as file:
            for at in range(0, len(members), _BLOCK):
                file.write(shingle_sets(signatures.keys(members[at : at + _BLOCK]), length)[0].tobytes())
        self._hashes: Hashes = np.memmap(path, np.uint64, mode="r")
        self._index(np.zeros(len(members), np.uint64) if groups is None else groups)

    def _index(self, groups: Hashes) -> None:
        sizes, threshold = self._sizes, self._threshold
        frequency = np.zeros(1 << _TABLE_BITS, np.int64)
        for at in range(0, len(self._hashes), 1 << _TABLE_BITS):
            slots = self._slots(self._hashes[at : at + (1 << _TABLE_BITS)])
            frequency += np.bincount(slots, minlength=1 << _TABLE_BITS)
        long = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
        short = sizes - np.ceil(2 * threshold / (1 + threshold) * sizes - 1e-9).astype(np.int64) + 1
        longs: list[tuple[Hashes, Integers]] = []
        shorts: list[tuple[Hashes, Integers]] = []
        for at in range(0, len(sizes), _BLOCK):
            block = slice(at, at + _BLOCK)
            first = self._starts[at]
            hashes = self._hashes[first : first + sizes[block].sum()]
            owner = np.repeat(np.arange(len(sizes[block])), sizes[block])
            order = np.lexsort((hashes, frequency[self._slots(hashes)], owner))
            place = np.arange(len(hashes)) - (self._starts[block] - first)[owner]
            hashes = hashes[order]  # the owners stay where they are: each text's shingles are ordered among themselves
            for lengths, parts in ((long, longs), (short, shorts)):
                chosen = place < lengths[block][owner]
                texts = owner[chosen] + at
                parts.append((hashes[chosen] ^ groups[texts], texts))  # texts of different groups never meet
        long_prefixes, short_prefixes = _Prefixes(longs, len(sizes)), _Prefixes(shorts, len(sizes))
        # the smaller of two similar sets has the shingle early enough to be in its short prefix
        self._as_larger = _Meetings(long_prefixes, short_prefixes)
        self._as_smaller = _Meetings(short_prefixes, long_prefixes)

    @staticmethod
    def _slots(hashes: Hashes) -> Integers:
        return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)

    def similar(self, row: int, open_: Bools) -> Integers:
        """The texts still open that are at least as similar to ``row`` as the threshold."""
        own = int(np.searchsorted(self._members, row))
        parts = [*self._as_larger.of(own), *self._as_smaller.of(own)]
        if not parts:
            return np.empty(0, np.int64)
        others = np.concatenate(parts)
        others = others[open_[self._members[others]]]
        sizes = self._sizes[others] + self._sizes[own]
        others = np.unique(others[not_ruled_out(self._maps[others], self._maps[own], sizes, self._threshold)])
        found = []
        for at in range(0, len(others), _PAIRS):
            right = others[at : at + _PAIRS]
            left = np.full(len(right), own)
            found.append(right[similar_pairs(self._hashes, self._starts, self._sizes, left, right, self._threshold)])
        positions: Integers = np.concatenate([*found, np.empty(0, np.int64)])
        return self._members[positions]


class _Prefixes:
    """Every text's first shingles, text by text, and which texts have a shingle (``holders``, by shingle)."""

    def __init__(self, parts: list[tuple[Hashes, Integers]], count: int) -> None:
        self.hashes = np.concatenate([hashes for hashes, _ in parts])
        owners = np.concatenate([owners for _, owners in parts])
        self.begins = np.searchsorted(owners, np.arange(count + 1))
        order = np.argsort(self.hashes, kind="stable")
        self.ordered, self.holders = self.hashes[order], owners[order].astype(np.int32)


class _Meetings:
    """Which texts have, in one kind of prefix, a shingle of a text's other kind of prefix."""

    def __init__(self, prefixes: _Prefixes, others: _Prefixes) -> None:
        self._begins, self._holders = prefixes.begins, others.holders
        self._lows = np.searchsorted(others.ordered, prefixes.hashes).astype(np.int32)
        self._highs = np.searchsorted(others.ordered, prefixes.hashes, side="right").astype(np.int32)

    def of(self, text: int) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
        """The texts that meet this one, by shingle."""
        begin, end = self._begins[text], self._begins[text + 1]
        lows, highs = self._lows[begin:end].tolist(), self._highs[begin:end].tolist()
        return [self._holders[low:high] for low, high in zip(lows, highs, strict=True) if high > low]

"""The exact similarity join for texts of large buckets: boilerplate and templates.

Candidates come from prefix filtering (Xiao, Wang, Lin & Yu, Efficient similarity joins for near duplicate detection,
WWW 2008): when every text's shingles are ordered from the rarest to the most frequent, two texts of a given similarity
must share one of their first few. Texts made from one template share its shingles, but these are frequent and hardly
ever among the first, so texts with different content do not meet. Bitmaps then rule out most of the rest. Nothing is
lost by any of it. Texts that are all alike do meet, and the first of them takes the others out of the game at once.
"""

from __future__ import annotations

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
        blocks = (members[at : at + _BLOCK] for at in range(0, len(members), _BLOCK))
        self._hashes = np.concatenate([shingle_sets(signatures.keys(block), length)[0] for block in blocks])
        self._index(np.zeros(len(members), np.uint64) if groups is None else groups)

    def _index(self, groups: Hashes) -> None:
        frequency = np.zeros(1 << _TABLE_BITS, np.int64)
        np.add.at(frequency, self._slots(self._hashes), 1)
        sizes, threshold = self._sizes, self._threshold
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
        self._long, self._short = _Postings(longs, len(sizes)), _Postings(shorts, len(sizes))
        self._long.look_up_in(self._short)
        self._short.look_up_in(self._long)

    @staticmethod
    def _slots(hashes: Hashes) -> Integers:
        return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)

    def similar(self, row: int, open_: Bools) -> Integers:
        """The texts still open that are at least as similar to ``row`` as the threshold."""
        own = int(np.searchsorted(self._members, row))
        parts = [*self._long.meeting(own), *self._short.meeting(own)]
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


class _Postings:
    """Which texts have a shingle in their prefix."""

    def __init__(self, parts: list[tuple[Hashes, Integers]], count: int) -> None:
        self._hashes = np.concatenate([hashes for hashes, _ in parts])
        self._owners = np.concatenate([owners for _, owners in parts])
        self._begins = np.searchsorted(self._owners, np.arange(count + 1))
        order = np.argsort(self._hashes, kind="stable")
        self._sorted, self._texts = self._hashes[order], self._owners[order]

    def look_up_in(self, other: _Postings) -> None:
        """Find for each text of this prefix where the other prefix has its shingles."""
        self._others = other._texts
        self._lows = np.searchsorted(other._sorted, self._hashes)
        self._highs = np.searchsorted(other._sorted, self._hashes, side="right")

    def meeting(self, text: int) -> list[Integers]:
        """Texts whose other prefix shares a shingle with this text's."""
        begin, end = self._begins[text], self._begins[text + 1]
        lows, highs = self._lows[begin:end].tolist(), self._highs[begin:end].tolist()
        return [self._others[low:high] for low, high in zip(lows, highs, strict=True) if high > low]

"""When texts are similar, for :class:`deepseek.data.cleaning.candidates.Candidates`."""

from __future__ import annotations

import numpy as np

from deepseek.data.cleaning.candidates import Candidates, Measure
from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.large_buckets import LargeBuckets
from deepseek.data.cleaning.shingles import Bools, Hashes, Integers, not_ruled_out, shingle_sets, similar_pairs
from deepseek.data.cleaning.signatures import Signatures


class TextMeasure(Measure):
    """Jaccard similarity of shingle sets; texts of different ``groups`` (a number each) are never similar."""

    def __init__(self, signatures: Signatures, config: CleaningConfig, groups: Hashes | None = None) -> None:
        assert config.near_duplicates is not None
        self.count = len(signatures.numbers)
        self._signatures, self._groups = signatures, groups
        self._threshold, self._length = config.near_duplicates, config.shingle_chars

    def possible(self, left: Integers, right: Integers) -> Bools:
        """Which pairs' bitmaps allow the threshold's similarity."""
        maps, sizes = self._signatures.maps, self._signatures.sizes
        return not_ruled_out(maps[left], maps[right], sizes[left] + sizes[right], self._threshold)

    def similar(self, left: Integers, right: Integers) -> Bools:
        """Which pairs have at least the threshold's similarity."""
        texts, back = np.unique(np.concatenate([left, right]), return_inverse=True)
        hashes, offsets = shingle_sets(self._signatures.keys(texts), self._length)
        starts, sizes = offsets[:-1], np.diff(offsets)
        return similar_pairs(hashes, starts, sizes, back[: len(left)], back[len(left) :], self._threshold)

    def large(self, rows: Integers) -> LargeBuckets:
        """The exact join of texts of large buckets."""
        groups = None if self._groups is None else self._groups[rows]
        return LargeBuckets(rows, self._signatures, threshold=self._threshold, length=self._length, groups=groups)


def text_candidates(
    signatures: Signatures, config: CleaningConfig, *, groups: Hashes | None = None, held_out: Bools | None = None
) -> Candidates:
    """All candidates that the signatures' bands propose."""
    candidates = Candidates(TextMeasure(signatures, config, groups), held_out)
    for band in range(signatures.bands):
        codes = signatures.band(band)
        candidates.add_band(codes if groups is None else codes ^ groups)
    return candidates

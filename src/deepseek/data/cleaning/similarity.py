"""Finding similar texts: MinHash signatures propose, exact Jaccard similarity decides.

Signatures are cut into bands; two texts that agree in one band are a candidate pair (Leskovec, Rajaraman & Ullman,
Mining of Massive Datasets, ch. 3). The number of rows in a band is the largest that still finds a pair at the threshold
with probability 0.9995, so what can be missed is small, and every pair that is reported was verified on the shingles
themselves, so nothing is reported that is not similar.

The signatures are computed in NumPy, for a batch of texts at a time and without the interpreter's lock: handing
signatures from a compiled library over as Python numbers takes longer than computing them here.

:class:`SimilarityIndex` is the plain reference: one text after the other, strings and sets. What the cleaner runs is
:mod:`deepseek.data.cleaning.candidates`, which must find the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deepseek.data.cleaning.shingles import Hashes, Integers, mixed

PERMUTATIONS = 128
RECALL = 0.9995


def shingles(key: str, length: int) -> frozenset[str]:
    """The set of character n-grams of a text key; a key that is shorter is its own only shingle."""
    if len(key) <= length:
        return frozenset((key,))
    return frozenset(key[start : start + length] for start in range(len(key) - length + 1))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Size of the intersection over size of the union, in [0, 1]."""
    common = len(a & b)
    return common / (len(a) + len(b) - common)


def band_rows(threshold: float) -> int:
    """How many signature values make one band, for a pair at ``threshold`` to be found with ``RECALL``."""
    for rows in range(PERMUTATIONS, 1, -1):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return rows
    return 1


def band_count(threshold: float) -> int:
    """How many bands a signature has."""
    return PERMUTATIONS // band_rows(threshold)


def band_codes(hashes: Hashes, offsets: Integers, threshold: float, seed: int) -> Hashes:
    """A 64-bit code of each band of each text, ``[bands, texts]``.

    Args:
        hashes: the texts' shingle sets, one after the other, and where each begins (``offsets``), as
            :func:`deepseek.data.cleaning.shingles.shingle_sets` gives them.
        seed: of the permutations ``h -> a * h + b`` modulo 2**32, with odd ``a``.
    """
    rows, bands = band_rows(threshold), band_count(threshold)
    codes = np.zeros((bands, len(offsets) - 1), np.uint64)
    if not len(hashes):
        return codes
    high = (hashes >> np.uint64(32)).astype(np.uint32)
    raw = np.random.PCG64(seed).random_raw(2 * rows * bands).astype(np.uint32)
    factors, shifts = raw[::2] | np.uint32(1), raw[1::2]
    values = np.empty_like(high)
    for band in range(bands):
        for row in range(band * rows, (band + 1) * rows):
            np.multiply(high, factors[row], out=values)
            np.add(values, shifts[row], out=values)
            codes[band] = mixed(codes[band] + np.minimum.reduceat(values, offsets[:-1]))
    return codes


class SimilarityIndex:
    """Texts that were added, and the first of them that is similar to another text. The plain reference."""

    def __init__(self, threshold: float, length: int) -> None:
        self._threshold = threshold
        self._length = length
        self._buckets: dict[tuple[int, int], list[int]] = {}
        self._keys: dict[int, str] = {}

    def add(self, row: int, key: str, codes: Sequence[int]) -> None:
        """Remember a text under its row number."""
        self._keys[row] = key
        for bucket in enumerate(codes):
            self._buckets.setdefault(bucket, []).append(row)

    def find(self, key: str, codes: Sequence[int], accept: Callable[[int], bool] = lambda _row: True) -> int | None:
        """The lowest row that is accepted and at least as similar as the threshold, or ``None``."""
        candidates = sorted({row for bucket in enumerate(codes) for row in self._buckets.get(bucket, ())})
        if not candidates:
            return None
        own = shingles(key, self._length)
        for row in candidates:
            if accept(row) and jaccard(own, shingles(self._keys[row], self._length)) >= self._threshold:
                return row
        return None

"""Finding similar texts: MinHash signatures propose, exact Jaccard similarity decides.

Signatures (through ``rensa``) are cut into bands; two texts that agree in one band are a candidate pair (Leskovec,
Rajaraman & Ullman, Mining of Massive Datasets, ch. 3). The number of rows in a band is the largest that still finds a
pair at the threshold with probability 0.9995, so what can be missed is small, and every pair that is reported was
verified on the shingles themselves, so nothing is reported that is not similar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from deepseek.errors import require

PERMUTATIONS = 128
RECALL = 0.9995
_CHUNK = 4096


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


def band_codes(keys: Sequence[str], threshold: float, length: int, seed: int) -> Iterator[list[bytes]]:
    """For each key the codes of its bands, computed in chunks (memory is bounded by a chunk)."""
    minhash = require("rensa", "clean").RMinHash
    rows = band_rows(threshold)
    bands = PERMUTATIONS // rows
    for start in range(0, len(keys), _CHUNK):
        # sorted: a set's order changes between processes, and the result must not depend on it
        sets = [sorted(shingles(key, length)) for key in keys[start : start + _CHUNK]]
        matrix = minhash.digest_matrix_from_token_sets(sets, PERMUTATIONS, seed).to_rows()
        width = rows * 4
        for signature in np.asarray(matrix, dtype=np.uint32):
            raw = signature.tobytes()
            yield [raw[band * width : (band + 1) * width] for band in range(bands)]


class SimilarityIndex:
    """Texts that were added, and the first of them that is similar to another text."""

    def __init__(self, threshold: float, length: int) -> None:
        self._threshold = threshold
        self._length = length
        self._buckets: dict[tuple[int, bytes], list[int]] = {}
        self._keys: dict[int, str] = {}

    def add(self, row: int, key: str, codes: list[bytes]) -> None:
        """Remember a text under its row number."""
        self._keys[row] = key
        for bucket in enumerate(codes):
            self._buckets.setdefault(bucket, []).append(row)

    def find(self, key: str, codes: list[bytes], accept: Callable[[int], bool] = lambda _row: True) -> int | None:
        """The lowest row that is accepted and at least as similar as the threshold, or ``None``."""
        candidates = sorted({row for bucket in enumerate(codes) for row in self._buckets.get(bucket, ())})
        if not candidates:
            return None
        own = shingles(key, self._length)
        for row in candidates:
            if accept(row) and jaccard(own, shingles(self._keys[row], self._length)) >= self._threshold:
                return row
        return None

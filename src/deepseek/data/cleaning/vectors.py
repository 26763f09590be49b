"""Near duplicates by embedding: rows whose vectors point in nearly the same direction.

Candidates come from random projections (Charikar, Similarity estimation techniques from rounding algorithms, STOC
2002): a vector's bits say on which side of random planes it lies, a band is a few bits, and enough bands are taken for
a pair at the threshold to share one with probability 0.9995. The cosine itself decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.candidates import Candidates, Large, Measure
from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.near_duplicates import groups_of, held_out_of, repeats
from deepseek.data.cleaning.shingles import Bools, Hashes, Integers, mixed
from deepseek.data.cleaning.similarity import RECALL
from deepseek.data.cleaning.step import Columns, Rejection, RowNumbers, Rows, StepResult
from deepseek.errors import DataError

NEAR = "near duplicate vector"
LEAK_SIMILAR = "leakage: vector nearly equals a held-out one"
_MOST_BANDS = 64
_BLOCK = 4096

Floats = np.ndarray[Any, np.dtype[np.float32]]


def check_vectors(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Reject rows whose vector is missing, has a value that is not a finite number, or has no direction (all zero)."""
    rejections = []
    for row, value in enumerate(table.column(columns.vector)):
        reason = "missing vector"
        if value.is_valid:
            vector = value.values.to_numpy(zero_copy_only=False)  # a null becomes NaN
            reason = "" if np.isfinite(vector.astype(np.float64)).all() else "vector is not finite"
            reason = reason or ("" if vector.any() else "vector is zero")
        if reason:
            rejections.append(Rejection(row=row, reason=reason))
    return StepResult(table=table, rejections=rejections)


def near_vectors(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Reject rows whose vector is nearly that of an earlier kept row of their split and label."""
    measure = VectorMeasure(rows, columns, config, groups_of(rows))
    yield from repeats(measure.numbers, vector_candidates(measure, config).first_similar(), NEAR)


def vector_leakage(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Reject training rows whose vector is nearly that of a held-out row."""
    held_out = held_out_of(rows)
    if held_out.any() and not held_out.all():
        measure = VectorMeasure(rows, columns, config)
        candidates = vector_candidates(measure, config, held_out)
        yield from repeats(measure.numbers, candidates.first_similar(), LEAK_SIMILAR)


class VectorMeasure(Measure):
    """Cosine similarity; the unit vectors lie in a file. Vectors of different ``groups`` are never similar.

    Raises:
        DataError: the vectors differ in length.
    """

    def __init__(self, rows: Rows, columns: Columns, config: CleaningConfig, groups: Hashes | None = None) -> None:
        assert config.near_vectors is not None
        assert columns.vector is not None
        self.count, self.groups, self._threshold = rows.count, groups, config.near_vectors
        self.numbers: RowNumbers = np.empty(rows.count, np.int64)
        self.vectors: Floats = np.empty((0, 0), np.float32)
        done = 0
        for numbers, batch in rows.batches([columns.vector]):
            lengths = {len(value) for value in batch.column(0)}
            if not done:
                path = rows.scratch / "vectors"
                self.vectors = np.memmap(path, np.float32, mode="w+", shape=(rows.count, min(lengths)))
            if lengths != {self.vectors.shape[1]}:
                lengths |= {self.vectors.shape[1]}
                raise DataError(
                    f"column {columns.vector!r}: expected vectors of one length, received lengths {sorted(lengths)}"
                )
            flat = batch.column(0).flatten().to_numpy(zero_copy_only=False).astype(np.float64)
            vectors = flat.reshape(len(numbers), -1)
            part = slice(done, done + len(numbers))
            self.vectors[part] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            self.numbers[part] = numbers
            done = part.stop

    def possible(self, left: Integers, right: Integers) -> Bools:
        """Which pairs are of one group."""
        return np.ones(len(left), np.bool_) if self.groups is None else self.groups[left] == self.groups[right]

    def similar(self, left: Integers, right: Integers) -> Bools:
        """Which pairs have at least the threshold's cosine."""
        alike = self.possible(left, right)
        for at in range(0, len(left), _BLOCK):
            part = slice(at, at + _BLOCK)
            cosines = np.einsum("nd,nd->n", self.vectors[left[part]], self.vectors[right[part]])
            alike[part] &= cosines >= self._threshold - 1e-6  # unit vectors are rounded to single precision
        return alike

    def large(self, rows: Integers) -> Large:
        """Vectors of large buckets."""
        return _LargeVectors(self, rows)


class _LargeVectors(Large):
    def __init__(self, measure: VectorMeasure, members: Integers) -> None:
        self._measure, self._members = measure, members

    def similar(self, row: int, open_: Bools) -> Integers:
        """Which open vectors are similar to ``row``."""
        others = self._members[open_[self._members]]
        return others[self._measure.similar(np.full(len(others), row), others)]


def bands_for(threshold: float) -> tuple[int, int]:
    """How many bits a band has (as many as leave the bands few), and how many bands are needed."""
    agree = 1 - math.acos(min(1.0, threshold)) / math.pi
    for bits in range(24, 1, -1):
        together = agree**bits
        bands = 1 if together >= RECALL else math.ceil(math.log(1 - RECALL) / math.log(1 - together))
        if bands <= _MOST_BANDS:
            return bits, bands
    return 1, _MOST_BANDS


def vector_candidates(measure: VectorMeasure, config: CleaningConfig, held_out: Bools | None = None) -> Candidates:
    """All candidates that the projections propose."""
    assert config.near_vectors is not None
    bits, bands = bands_for(config.near_vectors)
    random = np.random.default_rng(config.seed)
    candidates = Candidates(measure, held_out)
    for _ in range(bands):
        planes = random.standard_normal((measure.vectors.shape[1], bits)).astype(np.float32)
        codes = np.zeros(measure.count, np.uint64)
        for at in range(0, measure.count, _BLOCK):
            sides = measure.vectors[at : at + _BLOCK] @ planes > 0
            codes[at : at + _BLOCK] = sides @ (np.uint64(1) << np.arange(bits, dtype=np.uint64))
        candidates.add_band(mixed(codes) if measure.groups is None else mixed(codes) ^ measure.groups)
    return candidates

"""Outliers: numbers far from the rest of their column, and texts or vectors far from their neighbours.

Numbers are judged column by column with the modified z-score, ``0.6745 (x - median) / MAD`` (Iglewicz & Hoaglin 1993),
which the outliers themselves cannot hide, or jointly with an isolation forest (Liu, Ting & Zhou 2008). Texts (as hashed
TF-IDF, reduced by a truncated SVD) and vectors are judged by the mean cosine distance to their nearest neighbours in a
sample of the rows (Ramaswamy, Rastogi & Shim 2000).

What is unusual is not always wrong, so rows are flagged unless asked otherwise. Models are fitted on a seeded sample;
the state of all other rows is one number each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from deepseek.data.cleaning.label_noise import Floats, Ints
from deepseek.data.cleaning.out_of_sample import TOKEN
from deepseek.errors import DataError, UnknownNameError, require

ReadColumns = Callable[[list[str]], Iterator[tuple[Ints, pa.RecordBatch]]]
_WIDTH = 2**18
_COMPONENTS = 64
_CHARS_USED = 5_000  # of one text


class OutlierConfig(BaseModel):
    """Which columns to look at, and how far is too far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["flag", "reject"] = Field(
        default="flag", description="Keep the rows and mark them in the column outlier, or reject them."
    )
    columns: tuple[str, ...] = Field(default=(), description="Columns with numbers.")
    method: Literal["robust-z", "isolation-forest"] = Field(
        default="robust-z", description="Judge each number column by itself, or all of them together by a forest."
    )
    text: bool = Field(default=False, description="Look for texts that are like no others.")
    vector: bool = Field(default=False, description="Look for vectors that are far from all others.")
    max_z: float = Field(
        default=6.0,
        gt=0,
        description="Rows with a higher modified z-score, of a number or of a distance, are outliers.",
    )
    share: float | None = Field(
        default=None, gt=0, lt=0.5, description="Take this share of the rows, the farthest, in place of max_z."
    )
    neighbours: int = Field(default=10, ge=1, le=1_000, description="How many neighbours the distance is the mean of.")
    sample: int = Field(
        default=20_000,
        ge=100,
        le=1_000_000,
        description="Rows that models are fitted on and neighbours are taken from.",
    )


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """An unusual row: its number, the reason, and the score that was too high."""

    row: int
    reason: str
    score: float


def find_outliers(
    table: pa.Table, config: OutlierConfig, *, text: str | None = "text", vector: str | None = None, seed: int = 0
) -> list[Outlier]:
    """The unusual rows of a table in row order; a row is reported once, for its first reason.

    Raises:
        UnknownNameError: a column does not exist.
        DataError: a column is not of the kind that is needed, or none was given.
        MissingExtraError: the extra ``clean`` is not installed.
    """

    def read(columns: list[str]) -> Iterator[tuple[Ints, pa.RecordBatch]]:
        start = 0
        for batch in table.select(columns).to_batches(max_chunksize=8192):
            yield np.arange(start, start + batch.num_rows), batch
            start += batch.num_rows

    return judge_outliers(read, table.schema, config, text=text, vector=vector, seed=seed)


def judge_outliers(
    read: ReadColumns, schema: pa.Schema, config: OutlierConfig, *, text: str | None, vector: str | None, seed: int
) -> list[Outlier]:
    """As :func:`find_outliers`, for rows that are read batchwise, several times."""
    _check(schema, config, text, vector)
    found: dict[int, Outlier] = {}
    judged: list[tuple[str, Ints, Floats]] = []
    if config.columns and config.method == "isolation-forest":
        judged.append((f"unusual combination of {', '.join(config.columns)}", *_forest(read, config, seed)))
    else:
        judged += [(f"outlier in {column}", *_robust_z(read, column)) for column in config.columns]
    if config.text:
        assert text is not None
        judged.append(("unlike the other texts", *_distances(read, text, config, seed, texts=True)))
    if config.vector:
        assert vector is not None
        judged.append(("far from the other vectors", *_distances(read, vector, config, seed, texts=False)))
    for reason, row_n, score_n in judged:
        for position in _chosen(score_n, config, are_z=reason.startswith("outlier in")):
            row = int(row_n[position])
            found.setdefault(row, Outlier(row=row, reason=reason, score=float(score_n[position])))
    return [found[row] for row in sorted(found)]


def _check(schema: pa.Schema, config: OutlierConfig, text: str | None, vector: str | None) -> None:
    for column in config.columns:
        if column not in schema.names:
            raise UnknownNameError("column", column, schema.names)
        kind = schema.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise DataError(f"outliers, column {column!r}: expected numbers, received {kind}")
    for wanted, name, what in ((config.text, text, "text"), (config.vector, vector, "vector")):
        if wanted and name is None:
            raise DataError(
                f"outliers: expected a {what} column, received none; name one or set outliers.{what}: false"
            )
    if not (config.columns or config.text or config.vector):
        raise DataError("outliers: expected columns, text: true or vector: true, received nothing to look at")


def _chosen(score_n: Floats, config: OutlierConfig, *, are_z: bool) -> Ints:
    """Positions with a score that is too high; NaN (a missing value) never is."""
    if config.share is not None:
        count = int(config.share * np.count_nonzero(~np.isnan(score_n)))
        order = np.argsort(np.where(np.isnan(score_n), -np.inf, score_n), kind="stable")[::-1]
        return order[:count]
    z_n = score_n if are_z else _modified_z(score_n)
    return np.flatnonzero(np.nan_to_num(z_n, nan=0.0, posinf=np.inf) > config.max_z)


def _modified_z(value_n: Floats) -> Floats:
    """Signed modified z-scores; where half of all values are equal, the mean deviation stands in for the median one."""
    finite = value_n[np.isfinite(value_n)]
    if not len(finite):
        return np.where(np.isinf(value_n), value_n, np.nan)
    middle = np.median(finite)
    deviation = np.abs(finite - middle)
    spread = np.median(deviation) / 0.6745 or deviation.mean() * 1.253314
    with np.errstate(divide="ignore", invalid="ignore"):
        z_n = (value_n - middle) / spread
    return np.where(value_n == middle, 0.0, z_n)


def _robust_z(read: ReadColumns, column: str) -> tuple[Ints, Floats]:
    row_n, value_n1 = _numbers(read, [column])
    return row_n, np.abs(_modified_z(value_n1[:, 0]))


def _numbers(read: ReadColumns, columns: list[str]) -> tuple[Ints, Floats]:
    rows: list[Ints] = [np.empty(0, np.int64)]
    values: list[Floats] = [np.empty((0, len(columns)))]
    for numbers, batch in read(columns):
        rows.append(np.asarray(numbers, np.int64))
        values.append(_matrix(batch))
    return np.concatenate(rows), np.concatenate(values)


def _matrix(batch: pa.RecordBatch) -> Floats:
    """All columns as floats; a null is NaN."""
    cast = [pa.compute.cast(column, pa.float64(), safe=False) for column in batch.columns]
    return np.stack([column.to_numpy(zero_copy_only=False) for column in cast], axis=1)


def _forest(read: ReadColumns, config: OutlierConfig, seed: int) -> tuple[Ints, Floats]:
    columns = list(config.columns)
    picked = _sample_rows(read, columns, config.sample, seed)
    sample_nd = np.concatenate([_finite(_matrix(batch)) for _, batch in picked])
    ensemble = require("sklearn.ensemble", "clean")
    forest = ensemble.IsolationForest(n_estimators=200, random_state=seed).fit(sample_nd)
    rows, scores = [np.empty(0, np.int64)], [np.empty(0)]
    for numbers, batch in read(columns):
        rows.append(np.asarray(numbers, np.int64))
        scores.append(-forest.score_samples(_finite(_matrix(batch))))
    return np.concatenate(rows), np.concatenate(scores)


def _finite(values_nd: Floats) -> Floats:
    """Missing values as 0 and infinite ones as very large: a forest only compares."""
    return np.nan_to_num(values_nd, nan=0.0, posinf=1e300, neginf=-1e300).clip(-3e38, 3e38)


def _distances(read: ReadColumns, column: str, config: OutlierConfig, seed: int, *, texts: bool) -> tuple[Ints, Floats]:
    """For each row the mean cosine distance to its nearest neighbours in the sample, itself apart."""
    picked = _sample_rows(read, [column], config.sample, seed)
    embed = _TextEmbedding([b.column(0) for _, b in picked], seed) if texts else _unit_vectors
    sampled = np.concatenate([np.asarray(numbers) for numbers, _ in picked])
    reference_sd = np.concatenate([embed(batch.column(0)) for _, batch in picked])
    count = min(config.neighbours, len(sampled) - 1)
    rows, scores = [np.empty(0, np.int64)], [np.empty(0)]
    for numbers, batch in read([column]):
        rows.append(np.asarray(numbers, np.int64))
        for start in range(0, batch.num_rows, 1024):  # 1,024 rows times the sample are compared at once
            vectors_nd = embed(batch.column(0).slice(start, 1024))
            near_ns = vectors_nd @ reference_sd.T
            near_ns[np.asarray(numbers[start : start + 1024])[:, None] == sampled[None, :]] = -np.inf
            best_nc = np.partition(near_ns, -count, axis=1)[:, -count:] if count else np.ones((len(near_ns), 1))
            distance_n = 1 - best_nc.mean(axis=1)
            distance_n[~vectors_nd.any(axis=1)] = np.nan  # an empty text is like none and unlike none
            scores.append(distance_n.astype(np.float64))
    return np.concatenate(rows), np.concatenate(scores)


def _sample_rows(read: ReadColumns, columns: list[str], size: int, seed: int) -> list[tuple[Ints, pa.RecordBatch]]:
    """At most ``size`` rows, every one with the same chance, independent of how the rows are cut into batches."""
    total = sum(batch.num_rows for _, batch in read(columns[:1]))
    wanted: Ints = np.sort(np.random.default_rng(seed).choice(max(total, 1), min(size, total), replace=False))
    picked, start = [], 0
    for numbers, batch in read(columns):
        low, high = np.searchsorted(wanted, [start, start + batch.num_rows])
        inside = wanted[low:high] - start
        if len(inside):
            picked.append((np.asarray(numbers)[inside], batch.take(pa.array(inside))))
        start += batch.num_rows
    return picked


def _unit_vectors(column: pa.Array) -> Floats:
    if column.null_count or len(set(pa.compute.list_value_length(column).to_pylist())) > 1:
        raise DataError("outliers: expected vectors of one length in every row, received other lengths or nulls")
    flat = pa.compute.list_flatten(column).to_numpy(zero_copy_only=False)
    vectors_nd = np.asarray(flat, np.float32).reshape(len(column), -1)
    norm_n1 = np.linalg.norm(vectors_nd, axis=1, keepdims=True)
    return np.asarray(vectors_nd / np.where(norm_n1 > 0, norm_n1, 1))


class _TextEmbedding:
    """Hashed TF-IDF of words and pairs of words, reduced by a truncated SVD of the sample; rows of length 1."""

    def __init__(self, sample: list[pa.Array], seed: int) -> None:
        text = require("sklearn.feature_extraction.text", "clean")
        self._hash = text.HashingVectorizer(
            n_features=_WIDTH,
            token_pattern=TOKEN,
            ngram_range=(1, 2),
            alternate_sign=False,
            norm=None,
            dtype=np.float32,
        )
        counts_nf = require("scipy.sparse", "clean").vstack([self._counts(column) for column in sample]).tocsr()
        # words that the sample has not say nothing about a neighbour in it, and most of the width is empty
        self._used = np.flatnonzero(counts_nf.getnnz(axis=0))
        counts_nf = counts_nf[:, self._used]
        self._weigh = text.TfidfTransformer(sublinear_tf=True).fit(counts_nf)
        components = min(_COMPONENTS, min(counts_nf.shape) - 1)
        decomposition = require("sklearn.decomposition", "clean")
        self._reduce = decomposition.TruncatedSVD(max(components, 1), n_iter=4, random_state=seed)
        self._reduce.fit(self._weigh.transform(counts_nf))

    def _counts(self, column: pa.Array) -> Any:
        return self._hash.transform([(value or "")[:_CHARS_USED] for value in column.to_pylist()])

    def __call__(self, column: pa.Array) -> Floats:
        """Vectors ``[rows, components]``."""
        weighted_nf = self._weigh.transform(self._counts(column)[:, self._used])
        reduced_nd = self._reduce.transform(weighted_nf).astype(np.float32)
        # not scaled to length 1 by what the SVD kept: what it dropped is what makes a text unlike the others
        return np.asarray(reduced_nd)

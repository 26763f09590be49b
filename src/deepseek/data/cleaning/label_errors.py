"""Wrong labels, found by what cross-validated models say about each row, and what its label should probably be.

The probabilities come from built-in text models, from models on a vector column, or from a column that the user
computed out of sample; see :mod:`~deepseek.data.cleaning.out_of_sample`. Which rows are flagged is decided in
:mod:`~deepseek.data.cleaning.label_noise`. Many flagged rows are right and merely hard: on movie-review sentences with
5% of the labels flipped on purpose about 4 of 10 flags are such errors, and half of the errors are found. Rows are
therefore flagged for a person to look at, and rejected only on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from deepseek.data.cleaning.label_noise import Floats, Ints, NoiseModel
from deepseek.data.cleaning.out_of_sample import LabelledBatch, Size, out_of_sample
from deepseek.errors import DataError, UnknownNameError, require

MAX_CLASSES = 1_000


class LabelErrorConfig(BaseModel):
    """How to look for wrong labels, and what to do with the rows that have them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["flag", "reject"] = Field(
        default="flag",
        description="Keep the rows and mark them in the columns label_error and suggested_label, or reject them.",
    )
    method: Literal["posterior", "confident-learning"] = Field(
        default="posterior",
        description="The set of rows with the best expected F1, or cleanlab's confident learning, which flags more.",
    )
    min_probability: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Flag rows from this probability of an error on, in place of the set with the best expected F1.",
    )
    features: Literal["text", "vector"] = Field(default="text", description="What the built-in models look at.")
    probabilities: str | None = Field(
        default=None,
        description="A column with out-of-sample class probabilities (a list of floats for each row, classes in sorted "
        "order); the built-in models are then not used.",
    )
    folds: int = Field(default=5, ge=2, le=50, description="Parts of the cross-validation.")
    repeats: int = Field(default=2, ge=1, le=50, description="How often to repeat it with other parts.")


@dataclass(frozen=True, kw_only=True)
class LabelErrors:
    """Rows that are probably labelled wrongly, the likeliest first, and how much was looked at.

    ``rows`` are row numbers of the input, ``error`` the probability that the label is wrong (for ``confident-learning``
    one minus the probability of the given label). ``unjudged`` counts rows of classes with too few rows.
    """

    rows: np.ndarray[Any, np.dtype[np.int64]]
    given: list[Any]
    suggested: list[Any]
    error: Floats
    judged: int
    unjudged: int
    noise_rate: float

    def to_arrow(self) -> pa.Table:
        """Columns ``input_row``, ``label``, ``suggested_label`` and ``label_error``."""
        return pa.table(
            {
                "input_row": pa.array(self.rows, pa.int64()),
                "label": self.given,
                "suggested_label": self.suggested,
                "label_error": pa.array(self.error, pa.float32()),
            }
        )


ReadColumns = Callable[[list[str]], Iterator[tuple[Ints, pa.RecordBatch]]]


def find_label_errors(
    table: pa.Table,
    config: LabelErrorConfig | None = None,
    *,
    text: str | None = "text",
    label: str = "label",
    vector: str | None = None,
    seed: int = 0,
    batch_rows: int = 8192,
) -> LabelErrors:
    """Look for wrong labels in a table; see :class:`LabelErrorConfig`.

    Raises:
        UnknownNameError: a column does not exist.
        DataError: the labels are not classes, or there is nothing to learn from.
        MissingExtraError: the extra ``clean`` is not installed.
    """
    for name in (text, label, vector):
        if name is not None and name not in table.column_names:
            raise UnknownNameError("column", name, table.column_names)

    def read(columns: list[str]) -> Iterator[tuple[Ints, pa.RecordBatch]]:
        start = 0
        for batch in table.select(columns).to_batches(max_chunksize=batch_rows):
            yield np.arange(start, start + batch.num_rows), batch
            start += batch.num_rows

    return judge_labels(read, config or LabelErrorConfig(), text=text, label=label, vector=vector, seed=seed)


def judge_labels(
    read: ReadColumns, config: LabelErrorConfig, *, text: str | None, label: str, vector: str | None, seed: int
) -> LabelErrors:
    """Look for wrong labels in rows that are read batchwise, several times; memory is bounded as the parts say."""
    features = config.probabilities or (vector if config.features == "vector" else text)
    if features is None:
        raise DataError(f"label errors: expected a {config.features} column to learn from, received none")
    labels = _Labels(read, label, features, text=features == text, least=2 * config.folds)
    batches = _Batches(read, labels, label, features, config)
    if config.probabilities is not None:
        chunks = batches.given_probabilities()
    else:
        chunks = out_of_sample(
            batches, labels.code_n, labels.size, folds=config.folds, repeats=config.repeats, seed=seed
        )
    if config.method == "confident-learning":
        chosen, suggested, error, rate = _confident_learning(chunks, labels.code_n, len(labels.names))
    else:
        model = NoiseModel(len(labels.code_n), len(labels.names))
        for positions, probabilities_nk in chunks:
            model.add(positions, probabilities_nk, labels.code_n[positions])
        found = model.find(config.min_probability)
        chosen, suggested, error, rate = found.positions, found.suggested, found.error, found.noise_rate
    return LabelErrors(
        rows=labels.row_n[chosen],
        given=[labels.names[code] for code in labels.code_n[chosen]],
        suggested=[labels.names[code] for code in suggested],
        error=error,
        judged=len(labels.code_n),
        unjudged=labels.unjudged,
        noise_rate=rate,
    )


class _Labels:
    """The classes, and for each row that can be judged its input row and its class code (12 bytes a row)."""

    def __init__(self, read: ReadColumns, label: str, features: str, *, text: bool, least: int) -> None:
        codes: dict[Any, int] = {}
        rows, raw, characters, self.width = [np.empty(0, np.int64)], [np.empty(0, np.int32)], 0, 0
        for numbers, batch in read([label, features]):
            values = batch.column(label).to_pylist()
            raw.append(np.fromiter((_code(value, codes) for value in values), np.int32, len(values)))
            rows.append(np.asarray(numbers, np.int64))
            column = batch.column(features)
            if text:
                characters += pa.compute.sum(pa.compute.utf8_length(column)).as_py() or 0
            elif len(column):
                self.width = max(self.width, int(pa.compute.max(pa.compute.list_value_length(column)).as_py() or 0))
        code_n = np.concatenate(raw)
        known = code_n >= 0
        sizes = np.bincount(code_n[known], minlength=len(codes))
        enough = sizes >= least
        if enough.sum() < 2:
            raise DataError(
                f"label errors: expected at least two labels with {least} rows each, received {int(enough.sum())}; "
                "give fewer folds, more rows, or turn label_errors off"
            )
        names = list(codes)
        order = sorted(
            (code for code in range(len(names)) if enough[code]), key=lambda code: (str(type(names[code])), names[code])
        )
        self.names = [names[code] for code in order]
        new = np.full(len(names) + 1, -1, np.int32)  # the last is that of a missing label
        new[order] = np.arange(len(order))
        self.all_codes = new[code_n]
        self.row_n = np.concatenate(rows)[self.all_codes >= 0]
        self.code_n = self.all_codes[self.all_codes >= 0]
        self.unjudged = int(len(code_n) - len(self.code_n))
        self.size = Size(
            rows=len(self.code_n),
            classes=len(self.names),
            characters=characters,
            vector_width=0 if text else self.width,
        )


def _code(value: Any, codes: dict[Any, int]) -> int:
    if value is None or value != value:  # NaN
        return -1
    if len(codes) > MAX_CLASSES:
        raise DataError(
            f"label errors: expected at most {MAX_CLASSES:,} different labels, received more, such as {value!r}; "
            "turn label_errors off for labels that are numbers to predict"
        )
    return codes.setdefault(value, len(codes))


class _Batches:
    """The rows that can be judged, batch by batch, with positions that count only them."""

    def __init__(self, read: ReadColumns, labels: _Labels, label: str, features: str, config: LabelErrorConfig) -> None:
        self._read, self._labels, self._label, self._features = read, labels, label, features
        self._text = not labels.size.vector_width

    def __call__(self) -> Iterator[LabelledBatch]:
        for positions, column in self._columns():
            given_n = self._labels.code_n[positions]
            if self._text:
                yield LabelledBatch(positions, [value or "" for value in column.to_pylist()], None, given_n)
            else:
                yield LabelledBatch(positions, None, _matrix(column, self._labels.width, self._features), given_n)

    def given_probabilities(self) -> Iterator[tuple[Ints, Floats]]:
        """The user's probabilities, of the classes that are judged, checked."""
        width = len(self._labels.names)
        for positions, column in self._columns():
            matrix_nk = _matrix(column, width, self._features)
            if not np.allclose(matrix_nk.sum(axis=1), 1, atol=1e-2) or matrix_nk.min(initial=0) < 0:
                raise DataError(f"column {self._features!r}: expected probabilities that sum to 1 over {width} classes")
            yield positions, matrix_nk

    def _columns(self) -> Iterator[tuple[Ints, pa.Array]]:
        start = position = 0
        for _numbers, batch in self._read([self._features]):
            judged = self._labels.all_codes[start : start + batch.num_rows] >= 0
            start += batch.num_rows
            count = int(judged.sum())
            if count:
                yield np.arange(position, position + count), batch.column(self._features).filter(pa.array(judged))
            position += count


def _matrix(column: pa.Array, width: int, name: str) -> Floats:
    lengths = pa.compute.list_value_length(column)
    if column.null_count or not pa.compute.all(pa.compute.equal(lengths, width)).as_py():
        raise DataError(f"column {name!r}: expected {width} numbers in every row, received other lengths or nulls")
    flat = pa.compute.list_flatten(column).to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(column), width)


def _confident_learning(
    chunks: Iterator[tuple[Ints, Floats]], code_n: Ints, classes: int
) -> tuple[Ints, Ints, Floats, float]:
    """cleanlab's confident learning, with its recommended settings; holds all probabilities."""
    probabilities_nk = np.empty((len(code_n), classes), np.float32)
    for positions, chunk_nk in chunks:
        probabilities_nk[positions] = chunk_nk
    find = require("cleanlab.filter", "clean").find_label_issues
    chosen = np.asarray(find(code_n, probabilities_nk, return_indices_ranked_by="self_confidence", n_jobs=1))
    others_nk = probabilities_nk.copy()
    others_nk[np.arange(len(code_n)), code_n] = -1
    error = 1 - probabilities_nk[chosen, code_n[chosen]]
    return chosen, others_nk[chosen].argmax(axis=1), error, len(chosen) / len(code_n)

"""Assigns rows to train, validation and test, the same way every time.

Rows with one text (by its grouping key) always land in one split, so an exact copy cannot leak. Inside each label the
texts are ordered by a hash of seed and key, and the first go to test, the next to validation: the outcome depends on
the rows and the seed, not on the order of the rows.

A text is known by a keyed 128-bit hash of its key; a few dozen bytes a row are held in memory, never the texts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepseek.data.text_key import text_keys
from deepseek.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from deepseek.data.table import Table

_NAMES = np.array(["train", "test", "validation"])
_BATCH_ROWS = 8192


class SplitConfig(BaseModel):
    """Settings of :func:`assign_splits`; what is neither test nor validation is training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    test: float = Field(default=0.2, ge=0, lt=1, description="Fraction of the rows for the test split.")
    validation: float = Field(default=0.1, ge=0, lt=1, description="Fraction of the rows for the validation split.")
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Another seed gives another assignment.")
    stratify: bool = Field(default=True, description="Keep the fractions within each label.")

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> SplitConfig:
        if self.test + self.validation >= 1:
            raise ValueError(f"expected test + validation < 1, received {self.test} + {self.validation}")
        return self


def assign_splits(
    table: pa.Table,
    config: SplitConfig | None = None,
    *,
    text: str = "text",
    label: str | None = "label",
    split: str = "split",
) -> pa.Table:
    """Return ``table`` with a string column ``split``; a table that has one already is returned as it is.

    Args:
        label: the label column; ``None`` for data without labels.

    Raises:
        UnknownNameError: a column does not exist.
        DataError: the table is empty, has texts or labels missing, or only one class, or a class with too few texts to
            stand in every split; or an existing split column has no row called ``"train"``.
    """
    columns = _columns(table.schema, text, label, split)
    facts = _Facts(table.select(columns).to_batches(_BATCH_ROWS), text, label, split, config or SplitConfig())
    if split in columns:
        return table
    return table.append_column(split, pa.array(_NAMES[facts.assigned()], pa.string()))


def assign_splits_table(
    source: Table,
    dest_path: str | Path,
    config: SplitConfig | None = None,
    *,
    text: str = "text",
    label: str | None = "label",
    split: str = "split",
    overwrite: bool = False,
    storage_options: Mapping[str, str] | None = None,
) -> Table:
    """Write a stored table with a string column ``split``, as :func:`assign_splits` would give it, batch by batch.

    A table that has the column already is returned as it is, and nothing is written.

    Args:
        storage_options: how to reach the destination's object store, see :mod:`deepseek.data.table.storage`.

    Raises:
        TableError: the destination exists and ``overwrite`` is false, or cannot be written.
        UnknownNameError, DataError: as :func:`assign_splits`.
    """
    from deepseek.data.cleaning.inputs import TableInput
    from deepseek.data.table import Table

    columns = _columns(source.schema, text, label, split)
    facts = _Facts(source.batches(columns, batch_size=_BATCH_ROWS), text, label, split, config or SplitConfig())
    if split in columns:
        return source
    assigned = facts.assigned()

    def rows() -> Iterator[pa.RecordBatch]:
        for piece in TableInput(source).pieces(None):
            names = pa.array(_NAMES[assigned[piece.start : piece.stop]], pa.string())
            yield from piece.read().append_column(split, names).combine_chunks().to_batches()

    return Table.create(
        dest_path,
        rows(),
        schema=source.schema.append(pa.field(split, pa.string())).remove_metadata(),
        overwrite=overwrite,
        metadata={**source.metadata, "split_from": Path(source.path).name, "split_from_version": str(source.version)},
        storage_options=storage_options,
    )


def _columns(schema: pa.Schema, text: str, label: str | None, split: str) -> list[str]:
    """The columns to read; the split column is among them if there is one."""
    for name in (text, label):
        if name is not None and name not in schema.names:
            raise UnknownNameError("column", name, schema.names)
    names = (text, label, split if split in schema.names else None)
    return list(dict.fromkeys(name for name in names if name is not None))


class _Facts:
    """Of each row the hash of its text's key and the number of its label."""

    def __init__(
        self, batches: Iterable[pa.RecordBatch], text: str, label: str | None, split: str, config: SplitConfig
    ) -> None:
        self._config = config
        self._labels: dict[Any, int] = {}
        counts: Counter[Any] = Counter()
        present: Counter[Any] | None = None
        missing = 0
        hashes: list[bytes] = []
        codes: list[Any] = []
        rows = 0
        for batch in batches:
            rows += batch.num_rows
            labels = [None] * batch.num_rows if label is None else batch.column(label).to_pylist()
            counts.update(labels)
            if split in batch.schema.names:
                present = (present or Counter()) + Counter(batch.column(split).to_pylist())
                continue
            texts = batch.column(text).to_pylist()
            missing += texts.count(None)
            hashes.append(b"".join(_hash(key, config.seed) for key in text_keys([value or "" for value in texts])))
            codes.append(np.array([self._labels.setdefault(value, len(self._labels)) for value in labels], np.int64))
        if not rows:
            raise DataError("expected rows to split, received an empty table")
        if label is not None:
            _check_labels(counts, label)
        if present is not None and "train" not in present:
            raise DataError(f"column {split!r} has no row 'train'; its values: {', '.join(map(str, present))}")
        if missing:
            raise DataError(f"column {text!r} has {missing} rows without text; clean the table first")
        if present is None:
            self._hashes = np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64).reshape(-1, 2)
            self._codes = np.concatenate(codes)

    def assigned(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """For each row the position of its split in ``_NAMES``."""
        # a text with several labels needs one stratum that does not depend on the order of its rows: the least label
        strata = sorted({str(value) for value in self._labels})
        rank = {name: position for position, name in enumerate(strata)}
        ranks = np.array([rank[str(value)] if self._config.stratify else 0 for value in self._labels])
        order = np.lexsort((self._hashes[:, 1], self._hashes[:, 0]))
        ordered = self._hashes[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        starts = np.flatnonzero(new)  # of each text's rows; the texts are in the order of their hashes
        sizes = np.diff(np.append(starts, len(order)))
        stratum = np.minimum.reduceat(ranks[self._codes[order]], starts)
        of_text = np.zeros(len(starts), np.int8)
        for position in np.unique(stratum):
            chosen = np.flatnonzero(stratum == position)
            name = strata[position] if self._config.stratify and strata != ["None"] else ""
            of_text[chosen] = _cut(sizes[chosen], name, self._config)
        assigned = np.empty(len(order), np.int8)
        assigned[order] = np.repeat(of_text, sizes)
        return assigned


def _check_labels(counts: Counter[Any], column: str) -> None:
    if None in counts:
        raise DataError(f"column {column!r} has {counts[None]} rows without a label; clean the table first")
    if len(counts) == 1:
        ((only, count),) = counts.items()
        raise DataError(f"column {column!r}: expected at least two classes, received only {only!r} ({count} rows)")


def _cut(
    sizes: np.ndarray[Any, np.dtype[np.int64]], stratum: str, config: SplitConfig
) -> np.ndarray[Any, np.dtype[np.int8]]:
    """The split of each text of a stratum, given in order with its number of rows: the first ones go to test."""
    parts = [(code, part) for code, part in ((1, config.test), (2, config.validation)) if part > 0]
    if len(sizes) < len(parts) + 1:
        what = f"class {stratum!r}" if stratum else "the table"
        raise DataError(
            f"{what} has {len(sizes)} different texts; expected at least {len(parts) + 1}, one for each of "
            f"{', '.join(['train', *(str(_NAMES[code]) for code, _ in parts)])}"
        )
    outcome = np.zeros(len(sizes), np.int8)
    ends = np.cumsum(sizes)
    begin, before = 0, 0
    for place, (code, part) in enumerate(parts):
        wanted = max(1, round(int(ends[-1]) * part))
        spare = len(parts) - place  # the texts that the splits after this one need at least
        end = min(int(np.searchsorted(ends, before + wanted)) + 1, len(sizes) - spare)
        outcome[begin:end] = code
        begin, before = end, int(ends[end - 1])
    return outcome


def _hash(key: str, seed: int) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=seed.to_bytes(8, "big"), digest_size=16).digest()

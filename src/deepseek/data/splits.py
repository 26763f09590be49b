"""Assigns rows to train, validation and test, the same way every time.

Rows with one text (by its grouping key) always land in one split, so an exact copy cannot leak. Inside each label the
texts are ordered by a hash of seed and key, and the first go to test, the next to validation: the outcome depends on
the rows and the seed, not on the order of the rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepseek.data.text_key import text_key
from deepseek.errors import DataError, UnknownNameError


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
    config = config or SplitConfig()
    for name in (text, label):
        if name is not None and name not in table.column_names:
            raise UnknownNameError("column", name, table.column_names)
    if table.num_rows == 0:
        raise DataError("expected rows to split, received an empty table")
    labels = [None] * table.num_rows if label is None else table.column(label).to_pylist()
    if label is not None:
        _check_labels(labels, label)
    if split in table.column_names:
        present = Counter(table.column(split).to_pylist())
        if "train" not in present:
            raise DataError(f"column {split!r} has no row 'train'; its values: {', '.join(map(str, present))}")
        return table
    texts = table.column(text).to_pylist()
    if (missing := texts.count(None)) > 0:
        raise DataError(f"column {text!r} has {missing} rows without text; clean the table first")
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(texts):
        groups[text_key(value)].append(row)
    strata: defaultdict[str, list[str]] = defaultdict(list)
    for key, rows in groups.items():
        # a text with several labels needs one stratum that does not depend on the order of its rows
        strata[min(str(labels[row]) for row in rows) if config.stratify else ""].append(key)
    assigned = [""] * table.num_rows
    for stratum, keys in strata.items():
        for key, name in _assign(keys, groups, stratum, config).items():
            for row in groups[key]:
                assigned[row] = name
    return table.append_column(split, pa.array(assigned, pa.string()))


def _check_labels(labels: list[Any], column: str) -> None:
    counts = Counter(labels)
    if None in counts:
        raise DataError(f"column {column!r} has {counts[None]} rows without a label; clean the table first")
    if len(counts) == 1:
        ((only, count),) = counts.items()
        raise DataError(f"column {column!r}: expected at least two classes, received only {only!r} ({count} rows)")


def _assign(keys: list[str], groups: dict[str, list[int]], stratum: str, config: SplitConfig) -> dict[str, str]:
    names = [name for name, part in (("test", config.test), ("validation", config.validation)) if part > 0]
    if len(keys) < len(names) + 1:
        what = f"class {stratum!r}" if stratum else "the table"
        raise DataError(
            f"{what} has {len(keys)} different texts; expected at least {len(names) + 1}, one for each of "
            f"{', '.join(['train', *names])}"
        )
    total = sum(len(groups[key]) for key in keys)
    ordered = sorted(keys, key=lambda key: (_hash(key, config.seed), key))
    fractions = {"test": config.test, "validation": config.validation}
    outcome: dict[str, str] = {}
    position = 0
    for place, name in enumerate(names):
        wanted = max(1, round(total * fractions[name]))
        held = 0
        spare = len(names) - place  # the texts that the splits after this one need at least
        while position < len(ordered) - spare and held < wanted:
            outcome[ordered[position]] = name
            held += len(groups[ordered[position]])
            position += 1
    outcome.update(dict.fromkeys(ordered[position:], "train"))
    return outcome


def _hash(key: str, seed: int) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=seed.to_bytes(8, "big"), digest_size=16).digest()

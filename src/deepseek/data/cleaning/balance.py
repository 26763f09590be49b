"""Class balance: how many rows each label has, what that does to a model, and caps for what is too frequent.

The effective number of rows of a class, ``(1 - b^n) / (1 - b)`` with ``b = (N - 1) / N``, and weights in inverse
proportion to it are from Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepseek.data.cleaning.label_noise import Ints

ReadColumns = Callable[[list[str]], Iterator[tuple[Ints, pa.RecordBatch]]]
OVER_CAP = "over the cap of its label"


class BalanceConfig(BaseModel):
    """Caps on the rows of a label; without one, classes are only counted. Held-out splits are never thinned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_rows: int | None = Field(default=None, ge=1, description="Keep at most so many rows of a label.")
    max_ratio: float | None = Field(
        default=None, ge=1, description="Keep at most so many times the rows of the rarest label."
    )
    beta: float | None = Field(
        default=None, ge=0, lt=1, description="The b of the effective number; (N - 1) / N for N rows when null."
    )

    @model_validator(mode="after")
    def _one_cap(self) -> BalanceConfig:
        if self.max_rows is not None and self.max_ratio is not None:
            raise ValueError("expected max_rows or max_ratio, received both")
        return self


@dataclass(frozen=True, kw_only=True)
class ClassBalance:
    """Counts by label (the most frequent first) and what follows from them.

    ``imbalance_ratio`` is the largest count over the smallest, ``evenness`` the entropy over its maximum (1 is even),
    ``weights`` are loss weights with a mean of 1 over the labels.
    """

    counts: dict[str, int]
    imbalance_ratio: float
    evenness: float
    effective: dict[str, float]
    weights: dict[str, float]
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def class_balance(counts: Mapping[Any, int], beta: float | None = None) -> ClassBalance:
    """The balance of the counts; labels without rows are left out."""
    present = {str(label): n for label, n in sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))) if n > 0}
    total = sum(present.values())
    if not present:
        return ClassBalance(counts={}, imbalance_ratio=1.0, evenness=1.0, effective={}, weights={}, advice="no labels")
    b = (total - 1) / total if beta is None else beta
    effective = {label: (1 - b**n) / (1 - b) for label, n in present.items()}
    inverse = {label: 1 / number for label, number in effective.items()}
    mean = sum(inverse.values()) / len(inverse)
    entropy = -sum(n / total * math.log(n / total) for n in present.values())
    ratio = max(present.values()) / min(present.values())
    return ClassBalance(
        counts=present,
        imbalance_ratio=ratio,
        evenness=entropy / math.log(len(present)) if len(present) > 1 else 1.0,
        effective={label: round(number, 2) for label, number in effective.items()},
        weights={label: round(number / mean, 4) for label, number in inverse.items()},
        advice=_advice(len(present), ratio, min(present.values())),
    )


def _advice(classes: int, ratio: float, smallest: int) -> str:
    if classes == 1:
        return "only one label: nothing can be learned from it"
    if smallest < 10:
        return "labels with fewer than 10 rows: collect more of them, or merge them into another"
    if ratio > 10:
        return "strong imbalance: use the weights in the loss, or cap the frequent labels; do not judge by accuracy"
    if ratio > 3:
        return "some imbalance: use the weights in the loss, and judge by macro F1"
    return "balanced"


def over_the_cap(
    read: ReadColumns, config: BalanceConfig, *, label: str, split: str | None, train: str, seed: int
) -> tuple[Iterator[int], Counter[Any]]:
    """Row numbers to drop so that no label has more rows than its cap, and the counts before, over all rows.

    Which rows of a label stay is drawn by the seed. Only training rows go, when there are splits.
    """
    codes: dict[Any, int] = {}
    rows, code = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    before: Counter[Any] = Counter()
    for numbers, batch in read([label] if split is None else [label, split]):
        values = batch.column(0).to_pylist()
        before.update(values)
        mask = np.ones(len(values), np.bool_)
        if split is not None:
            mask = np.fromiter((value == train for value in batch.column(1).to_pylist()), np.bool_, len(values))
        rows.append(np.asarray(numbers, np.int64)[mask])
        code.append(np.fromiter((codes.setdefault(v, len(codes)) for v in values), np.int32, len(values))[mask])
    row_n, code_n = np.concatenate(rows), np.concatenate(code)
    sizes = np.bincount(code_n, minlength=len(codes))
    cap = config.max_rows
    if config.max_ratio is not None and len(sizes[sizes > 0]):
        cap = int(config.max_ratio * sizes[sizes > 0].min())
    return _drawn(row_n, code_n, sizes, cap, seed), before


def _drawn(row_n: Ints, code_n: Ints, sizes: Ints, cap: int | None, seed: int) -> Iterator[int]:
    if cap is None:
        return
    rng = np.random.default_rng(seed)
    goes = np.zeros(len(row_n), np.bool_)
    for code in np.flatnonzero(sizes > cap):
        members = np.flatnonzero(code_n == code)
        goes[rng.choice(members, len(members) - cap, replace=False)] = True
    yield from map(int, row_n[goes])

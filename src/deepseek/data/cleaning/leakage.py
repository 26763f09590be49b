"""Leakage between splits: training rows that repeat a held-out row, whatever their labels.

The training row goes, so the held-out sets stay as they were and results on them stay comparable. Every split that is
not called ``train`` is held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.groups import by, partitions, spread
from deepseek.data.cleaning.near_duplicates import held_out_of, repeats
from deepseek.data.cleaning.signatures import Signatures
from deepseek.data.cleaning.step import Columns, Rejection, Rows
from deepseek.data.cleaning.text_facts import HELD_OUT, HIGH, LOW
from deepseek.data.cleaning.text_similarity import text_candidates

EQUAL = "leakage: equals a held-out row"
SIMILAR = "leakage: nearly equals a held-out row"


def leakage(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Reject training rows whose text key equals a held-out one, or is similar at the near-duplicate threshold."""
    equal = []
    for row, held_out in equal_to_held_out(rows, HIGH, LOW):
        equal.append(row)
        yield Rejection(row=row, reason=EQUAL, duplicate_of=held_out)
    if config.near_duplicates is not None:
        yield from _similar(rows, config, np.array(equal, np.int64))


def equal_to_held_out(rows: Rows, high: str, low: str) -> Iterator[tuple[int, int]]:
    """Training rows whose key (in two facts) a held-out row has, with the first such row."""
    for facts in partitions(rows, high, low):
        ordered, starts = by(facts, HIGH, LOW)
        if not len(starts):
            continue
        held_out = ordered[HELD_OUT]
        never = np.iinfo(np.int64).max
        first = np.minimum.reduceat(np.where(held_out, ordered["row"], never), starts)[spread(starts, len(ordered))]
        leaked = ~held_out & (first != never)
        yield from zip(ordered["row"][leaked].tolist(), first[leaked].tolist(), strict=True)


def _similar(rows: Rows, config: CleaningConfig, equal: np.ndarray[Any, Any]) -> Iterator[Rejection]:
    held_out = held_out_of(rows)
    if held_out.any() and not held_out.all():
        signatures = Signatures(rows, config)
        candidates = text_candidates(signatures, config, held_out=held_out)
        yield from repeats(signatures.numbers, candidates.first_similar(~np.isin(signatures.numbers, equal)), SIMILAR)

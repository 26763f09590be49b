"""How well vectors find their partners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from deepseek.tasks.metrics import bootstrap

Array: TypeAlias = "np.ndarray[Any, Any]"
CHUNK = 1024


def ranks(queries: Array, candidates: Array, own: Sequence[int], ignored: Sequence[Sequence[int]]) -> Array:
    """Rank of each query's own candidate by dot product, from 1; ties count half.

    Args:
        queries: (rows, width).
        candidates: (candidates, width).
        own: index of each query's candidate.
        ignored: candidates that do not count for a query: its other right answers.
    """
    found = np.empty(len(queries))
    for start in range(0, len(queries), CHUNK):
        scores = queries[start : start + CHUNK] @ candidates.T
        for i, row in enumerate(scores, start):
            mine = row[own[i]]
            counted = np.ones(len(row), bool)
            counted[[own[i], *ignored[i]]] = False
            others = row[counted]
            found[i] = 1 + (others > mine).sum() + (others == mine).sum() / 2
    return found


def retrieval_scores(found: Array) -> dict[str, float]:
    """``mrr``, ``recall_at_1``, ``recall_at_10`` of ranks, each with its 95% interval over rows."""
    values = {"mrr": 1 / found, "recall_at_1": (found <= 1) * 1.0, "recall_at_10": (found <= 10) * 1.0}
    return bootstrap(lambda weights: {n: weights @ v / weights.sum(1) for n, v in values.items()}, len(found))

"""Score a predictor on rows with known answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.inference.predictor import Predictor


def evaluate(predictor: Predictor, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Compute the task's metrics on rows that have their answers.

    Raises:
        DataError: there are no rows, or a row lacks an input or its answer.
    """
    return predictor.score(rows)

"""Score a predictor on rows with known answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.inference.predictor import Predictor


def evaluate(predictor: Predictor, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Answer all rows and compute the task's metrics against the rows' own answers.

    Raises:
        DataError: there are no rows, or a row lacks an input or its answer.
    """
    references = predictor.definition.references(rows)
    return predictor.definition.metrics(predictor.predict(rows), references)

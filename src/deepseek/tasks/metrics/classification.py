"""One label a row: accuracy, F1, Matthews correlation, and the scores of one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from deepseek.errors import DataError
from deepseek.tasks.metrics.intervals import Floats, bootstrap, ratio, share
from deepseek.tasks.metrics.ranking import roc_auc


def classification_metrics(
    predicted: Sequence[str],
    references: Sequence[str],
    *,
    positive: str | None = None,
    positive_scores: Sequence[float] | None = None,
) -> dict[str, float]:
    """Scores of single-label classification.

    * ``accuracy`` with Wilson's interval (in single-label classification it is also the micro-averaged F1).
    * ``f1_macro``: mean F1 of the labels that the references have; a label that is never answered counts as 0.
    * ``matthews_correlation`` (Matthews 1975; for more than two labels Gorodkin 2004): 0 where all rows have one label
      or all answers are one label, as scikit-learn has it.
    * with ``positive``: ``precision``, ``recall`` and ``f1`` of that label, and, given its probabilities, ``roc_auc``.

    Raises:
        DataError: there are no rows.
    """
    if not references:
        raise DataError("there are no rows to evaluate on")
    cells = Counter(zip(references, predicted, strict=True))
    labels = sorted({label for cell in cells for label in cell})
    ids = {label: i for i, label in enumerate(labels)}
    truth = np.eye(len(labels))[[ids[real] for real, _ in cells]]  # (cells, labels)
    answer = np.eye(len(labels))[[ids[said] for _, said in cells]]

    def statistic(weights: Floats) -> Mapping[str, Floats]:
        real, said, right = weights @ truth, weights @ answer, weights @ (truth * answer)
        f1 = ratio(2 * right, real + said)
        found = {
            "f1_macro": (f1 * (real > 0)).sum(1) / (real > 0).sum(1),
            "matthews_correlation": _matthews(real, said, right),
        }
        if positive is not None:
            at = ids.get(positive)
            zeros = np.zeros(len(weights))
            found["precision"] = zeros if at is None else ratio(right[:, at], said[:, at])
            found["recall"] = zeros if at is None else ratio(right[:, at], real[:, at])
            found["f1"] = zeros if at is None else f1[:, at]
        return found

    count = sum(cells.values())
    found = share("accuracy", sum(n for (real, said), n in cells.items() if real == said), count)
    found |= bootstrap(statistic, np.array(list(cells.values()), np.float64))
    if positive is not None and positive_scores is not None:
        found |= roc_auc(positive_scores, [real == positive for real in references])
    return found


def _matthews(real: Floats, said: Floats, right: Floats) -> Floats:
    total = real.sum(1)
    covariance = right.sum(1) * total - (real * said).sum(1)
    spread = (total**2 - (real**2).sum(1)) * (total**2 - (said**2).sum(1))
    return ratio(covariance, np.sqrt(spread))

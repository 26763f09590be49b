"""Any number of labels a row: F1 over all decisions, over labels, of each label, and rows that are right as a whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from deepseek.errors import DataError
from deepseek.tasks.metrics.intervals import Floats, bootstrap, ratio, share

MOST_REPORTED = 100
"""Labels above this number are not scored one by one: nobody reads a thousand scores."""


def multi_label_metrics(
    predicted: Sequence[Collection[str]], references: Sequence[Collection[str]]
) -> dict[str, float]:
    """Scores of multi-label classification.

    * ``subset_accuracy``: the share of rows whose labels are all right and complete, with Wilson's interval.
    * ``f1_micro``, ``precision_micro``, ``recall_micro``: over all decisions of all rows.
    * ``f1_macro``: mean F1 of the labels that the references have.
    * ``f1/LABEL``: F1 of each label that occurs, where there are no more than 100.

    Raises:
        DataError: there are no rows.
    """
    if not references:
        raise DataError("there are no rows to evaluate on")
    labels = sorted({label for row in (*predicted, *references) for label in row})
    truth, answer = _matrix(references, labels), _matrix(predicted, labels)
    sums = np.concatenate([truth, answer, truth * answer], axis=1)

    def statistic(weights: Floats) -> Mapping[str, Floats]:
        real, said, right = np.split(weights @ sums, 3, axis=1)
        f1 = ratio(2 * right, real + said)
        occurs = real > 0
        found = {
            "f1_micro": ratio(2 * right.sum(1), real.sum(1) + said.sum(1)),
            "precision_micro": ratio(right.sum(1), said.sum(1)),
            "recall_micro": ratio(right.sum(1), real.sum(1)),
            "f1_macro": ratio((f1 * occurs).sum(1), occurs.sum(1).astype(np.float64)),
        }
        if len(labels) <= MOST_REPORTED:
            found |= {f"f1/{label}": f1[:, i] for i, label in enumerate(labels)}
        return found

    right = sum(set(said) == set(real) for said, real in zip(predicted, references, strict=True))
    return share("subset_accuracy", right, len(references)) | bootstrap(statistic, len(references))


def _matrix(rows: Sequence[Collection[str]], labels: Sequence[str]) -> Floats:
    ids = {label: i for i, label in enumerate(labels)}
    matrix = np.zeros((len(rows), len(labels)))
    for number, row in enumerate(rows):
        matrix[number, [ids[label] for label in row]] = 1
    return matrix

"""How well a score puts the positive rows first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deepseek.tasks.metrics.intervals import Floats, bootstrap, ratio


def roc_auc(scores: Sequence[float], positive: Sequence[bool]) -> dict[str, float]:
    """``roc_auc``: the chance that a positive row has a higher score than a negative one, ties counting half.

    That is the Mann-Whitney statistic, equal to the area under the ROC curve (Hanley & McNeil 1982). Empty where all
    rows are of one kind.
    """
    values, group = np.unique(np.asarray(scores, np.float64), return_inverse=True)
    is_positive = np.asarray(positive, bool)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(values)))
    sign = is_positive[order]

    def statistic(weights: Floats) -> Mapping[str, Floats]:
        sorted_weights = weights[:, order]
        ups = np.add.reduceat(sorted_weights * sign, starts, axis=1)
        downs = np.add.reduceat(sorted_weights * ~sign, starts, axis=1)
        below = np.cumsum(downs, axis=1) - downs / 2
        return {"roc_auc": ratio((ups * below).sum(1), ups.sum(1) * downs.sum(1), otherwise=np.nan)}

    return bootstrap(statistic, len(group))

"""Scores of labelled answers with their 95% intervals.

* :func:`proportion`: Wilson's interval (Wilson 1927), which stays inside 0..1 and holds for few observations.
* :func:`mean`: the normal interval of a mean.
* :func:`auc`: the area under the ROC curve as the Mann-Whitney statistic, with DeLong's variance (DeLong et al. 1988)
  by mid-ranks (Sun and Xu, "Fast Implementation of DeLong's Algorithm", IEEE SPL 21(11), 2014), on the logit scale so
  that the interval stays inside 0..1 (Pepe 2003, 5.2.3).

Rows are taken as independent: many answers to one person make the truth wider than these intervals.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
Vector = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A score with the bounds of its 95% interval."""

    value: float
    lower: float
    upper: float


def proportion(right: int, count: int) -> Estimate | None:
    """A share of ``count`` observations; ``None`` without any."""
    if not count:
        return None
    share, z2 = right / count, Z95 * Z95
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    # exact at the ends, where rounding could put the bound a hair inside of the value
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def mean(values: Vector) -> Estimate | None:
    """A mean; ``None`` for fewer than two values, which say nothing of their spread."""
    if len(values) < 2:
        return None
    middle = float(values.mean())
    half = Z95 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(middle, middle - half, middle + half)


def auc(positive: Vector, negative: Vector) -> Estimate | None:
    """Probability that a positive's score is above a negative's, ties half; ``None`` with fewer than two of either."""
    m, n = len(positive), len(negative)
    if m < 2 or n < 2:
        return None
    together = _midranks(np.concatenate([positive, negative]))
    above = (together[:m] - _midranks(positive)) / n
    below = 1 - (together[m:] - _midranks(negative)) / m
    area = float(above.mean())
    spread = math.sqrt(float(above.var(ddof=1)) / m + float(below.var(ddof=1)) / n)
    if not 0 < area < 1 or spread == 0:
        # a perfect separation has no variance to estimate: the rule of three bounds what so few can show
        slack = min(1.0, 3 / min(m, n))
        return Estimate(area, max(0.0, area - slack), min(1.0, area + slack))
    logit = math.log(area / (1 - area))
    half = Z95 * spread / (area * (1 - area))
    return Estimate(area, _logistic(logit - half), _logistic(logit + half))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _midranks(values: Vector) -> Vector:
    """Ranks from 1, equal values sharing the middle of theirs."""
    unique, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    assert len(unique) == len(counts)
    last = np.cumsum(counts)
    middle: Vector = (last - counts + 1 + last) / 2
    ranks: Vector = middle[inverse]
    return ranks

"""Distances between two sets of counts, and how likely chance alone would make them as large.

Everything works on counts over the same bins, so both sides may be of any size and neither is kept in memory:

* :func:`psi`: population stability index, with half an observation added to each bin so that empty ones stay finite.
* :func:`chi_square`: homogeneity of two samples; bins in which fewer than five are expected are pooled (Cochran 1954).
* :func:`kolmogorov_smirnov`: the greatest distance between the two distribution functions at the bins' borders. It
  cannot exceed that of the raw samples, so its p-value (Kolmogorov's limit with Stephens' correction, 1970) errs on
  the side of "no difference", a little.
* :func:`holm`: p-values corrected for the number of tests (Holm 1979).

Written out here because the core does not depend on SciPy; the tests compare with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def psi(reference: Vector, current: Vector) -> float:
    """Population stability index of two vectors of counts over the same bins; 0 when one side is empty."""
    if not reference.sum() or not current.sum():
        return 0.0
    first = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
    second = (current + 0.5) / (current.sum() + 0.5 * len(current))
    return float(((second - first) * np.log(second / first)).sum())


def chi_square(reference: Vector, current: Vector) -> tuple[float, int, float]:
    """Statistic, degrees of freedom and p-value of "both samples come from one distribution"."""
    pair = _pooled(np.stack([reference, current]))
    rows, columns = pair.sum(axis=1), pair.sum(axis=0)
    if pair.shape[1] < 2 or not rows.all():
        return 0.0, 0, 1.0
    expected = np.outer(rows, columns) / pair.sum()
    statistic = float(((pair - expected) ** 2 / expected).sum())
    freedom = pair.shape[1] - 1
    return statistic, freedom, chi_square_tail(statistic, freedom)


def _pooled(pair: Vector) -> Vector:
    """The bins with the rarest merged until at least five are expected in each, on both sides."""
    pair = pair[:, pair.sum(axis=0) > 0]
    total = pair.sum()
    if not total:
        return pair
    least = pair.sum(axis=1).min() / total
    order = np.argsort(pair.sum(axis=0), kind="stable")
    totals = pair.sum(axis=0)[order] * least
    few = int((totals < 5).sum())
    while 0 < few < len(order) and totals[:few].sum() < 5:
        few += 1
    if few < 2:  # no rare bin; a single one was joined by its neighbour above
        return pair
    rest = pair[:, order[:few]].sum(axis=1, keepdims=True)
    return np.concatenate([rest, pair[:, order[few:]]], axis=1)


def kolmogorov_smirnov(reference: Vector, current: Vector) -> tuple[float, float]:
    """The greatest distance of the two distribution functions at the bins' borders, and its p-value."""
    n, m = reference.sum(), current.sum()
    if not n or not m:
        return 0.0, 1.0
    distance = float(np.abs(np.cumsum(reference) / n - np.cumsum(current) / m).max())
    root = math.sqrt(n * m / (n + m))
    return distance, kolmogorov_tail((root + 0.12 + 0.11 / root) * distance)


def kolmogorov_tail(value: float) -> float:
    """P(K > value) for Kolmogorov's distribution."""
    if value < 1e-3:
        return 1.0
    if value < 1.18:  # the series for small values (Jacobi's theta function), where the other converges slowly
        steps = np.exp(-((2 * np.arange(1, 20) - 1) ** 2) * (math.pi**2 / (8 * value**2)))
        return 1.0 - math.sqrt(2 * math.pi) / value * float(steps.sum())
    k = np.arange(1, 20)
    return min(1.0, 2 * float(((-1.0) ** (k - 1) * np.exp(-2 * (k * value) ** 2)).sum()))


def chi_square_tail(statistic: float, freedom: int) -> float:
    """P(X > statistic) for a chi-square variable: the regularised upper incomplete gamma function (Lentz 1976)."""
    a, x = freedom / 2, statistic / 2
    if x <= 0 or freedom < 1:
        return 1.0
    scale = math.exp(-x + a * math.log(x) - math.lgamma(a)) if -x + a * math.log(x) - math.lgamma(a) > -745 else 0.0
    if x < a + 1:
        term = total = 1 / a
        step = a
        while abs(term) > abs(total) * 1e-15:
            step += 1
            term *= x / step
            total += term
        return max(0.0, 1 - total * scale)
    b = x + 1 - a
    c, d = 1e300, 1 / b
    result = d
    for i in range(1, 10_000):
        numerator = -i * (i - a)
        b += 2
        d = 1 / (numerator * d + b)
        c = b + numerator / c
        result *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return scale * result


def outside_tail(reference: int, current: int, outside: int) -> float:
    """At most this likely: so many of the current values lie beyond the least and greatest of the reference's.

    If both come from one continuous distribution, all orders of the values are equally likely. At least half of the
    values outside lie on one side, so twice that side's probability is an upper bound.
    """
    least = (outside + 1) // 2
    if not reference or not least:
        return 1.0
    every = reference + current
    terms = (every - least + 1, 1.0), (current + 1, 1.0), (current - least + 1, -1.0), (every + 1, -1.0)
    return min(1.0, 2 * math.exp(sum(sign * math.lgamma(place) for place, sign in terms)))


def two_sided(z: float) -> float:
    """P(\\|Z\\| > z) for a standard normal variable."""
    return math.erfc(abs(z) / math.sqrt(2))


def any_of(p_value: float, tests: int) -> float:
    """The p-value of the smallest of several (Šidák 1967), which also holds when they depend on one another."""
    return -math.expm1(tests * math.log1p(-p_value)) if p_value < 1 else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected so that all tests together err with the stated probability; order is kept."""
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted

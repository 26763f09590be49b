"""A number a row: correlations and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deepseek.tasks.metrics.intervals import Floats, bootstrap, ratio

_CONSTANT = 1e-9
"""A variance below this share of the whole sample's is rounding."""


def regression_metrics(predicted: Sequence[float], references: Sequence[float]) -> dict[str, float]:
    """``pearson``, ``spearman`` (ties have their mean rank), ``mae`` and ``rmse`` (in the unit of the numbers).

    A series that is constant correlates with nothing: its correlations are 0.

    Raises:
        DataError: there are no rows.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(references, np.float64)
    errors = np.abs(x - y)
    scaled_x, scaled_y = _scaled(x), _scaled(y)
    moments = np.stack([scaled_x, scaled_y, scaled_x**2, scaled_y**2, scaled_x * scaled_y], axis=1)
    ranks = _Ranks(x), _Ranks(y)

    def statistic(weights: Floats) -> Mapping[str, Floats]:
        total = weights.sum(1)
        means = (weights @ moments) / total[:, None]
        return {
            "pearson": _correlation(*means.T),
            "spearman": _rank_correlation(weights, *(r.of(weights) for r in ranks)),
            "mae": weights @ errors / total,
            "rmse": np.sqrt(weights @ errors**2 / total),
        }

    return bootstrap(statistic, len(x))


def _scaled(values: Floats) -> Floats:
    """Mean 0 and deviation 1, so that no difference of large numbers is taken; zeros where all are equal."""
    if not len(values):
        return values
    centred = values - values.mean()
    deviation = centred.std()
    # a constant's mean is off by rounding, so its deviation is not exactly 0
    if deviation <= _CONSTANT * max(abs(float(values.mean())), float(np.finfo(np.float64).tiny)):
        return np.zeros_like(values)
    scaled: Floats = centred / deviation
    return scaled


def _correlation(mean_x: Floats, mean_y: Floats, square_x: Floats, square_y: Floats, product: Floats) -> Floats:
    spread_x, spread_y = square_x - mean_x**2, square_y - mean_y**2
    varied = (spread_x > _CONSTANT) & (spread_y > _CONSTANT)
    r = ratio(product - mean_x * mean_y, np.sqrt(np.where(varied, spread_x * spread_y, 0.0)))
    return np.clip(r, -1.0, 1.0)


class _Ranks:
    """The mid-ranks of a series in each resample: cumulative sums of the weights of its sorted values."""

    def __init__(self, values: Floats) -> None:
        _, self._group = np.unique(values, return_inverse=True)
        self._order = np.argsort(self._group, kind="stable")
        groups = int(self._group.max()) + 1 if len(values) else 0
        self._starts = np.searchsorted(self._group[self._order], np.arange(groups))

    def of(self, weights: Floats) -> Floats:
        """Ranks from 0 to 1 in each resample, shape (resamples, rows)."""
        sizes = np.add.reduceat(weights[:, self._order], self._starts, axis=1)
        middle = np.cumsum(sizes, axis=1) - sizes / 2
        ranks: Floats = (middle / weights.sum(1, keepdims=True))[:, self._group]
        return ranks


def _rank_correlation(weights: Floats, x: Floats, y: Floats) -> Floats:
    shares = weights / weights.sum(1, keepdims=True)
    x, y = x - (shares * x).sum(1, keepdims=True), y - (shares * y).sum(1, keepdims=True)
    zero = np.zeros(len(weights))
    return _correlation(zero, zero, (shares * x * x).sum(1), (shares * y * y).sum(1), (shares * x * y).sum(1))

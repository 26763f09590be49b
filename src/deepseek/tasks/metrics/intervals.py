"""How sure a score is: Wilson's interval for shares, the bootstrap for everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from deepseek.errors import DataError

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Statistic: TypeAlias = Callable[[Floats], Mapping[str, Floats]]
"""From weights, shape (resamples, rows), to the metrics of each resample, shape (resamples,) each."""

LEVEL = 0.95
_Z = 1.959964
"""The normal quantile of ``LEVEL``."""
REPLICATES = 1000
_CHUNK_VALUES = 1 << 21
"""Weights that are held at once (16 MB)."""


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The 95% interval of a share of independent rows (Wilson 1927, without continuity correction)."""
    p = successes / count
    centre = (p + _Z * _Z / (2 * count)) / (1 + _Z * _Z / count)
    half = _Z * (p * (1 - p) / count + _Z * _Z / (4 * count * count)) ** 0.5 / (1 + _Z * _Z / count)
    # at 0 and at all right one bound is exactly the share itself; rounding may miss it by one ulp on either side
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))


def share(name: str, successes: int, count: int) -> dict[str, float]:
    """A share with its Wilson interval, under ``name``, ``name_low`` and ``name_high``."""
    low, high = wilson(successes, count)
    return {name: successes / count, f"{name}_low": low, f"{name}_high": high}


def bootstrap(
    statistic: Statistic, counts: Floats | int, *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, float]:
    """Metrics with their 95% percentile intervals (Efron 1979): rows are drawn again, with replacement.

    A resample is given as the number of times that each row was drawn, so that a statistic made of sums is a matrix
    product, and one of ranks a cumulative sum; no row is ever copied. The estimate itself comes from the same function,
    with every row drawn once. The interval is widened to hold the estimate, which the percentiles of a skewed statistic
    may miss. Where a metric is not defined (NaN) on a resample, that resample is left out of its interval; a metric
    that is not defined on the rows is left out altogether.

    Args:
        statistic: see :data:`Statistic`.
        counts: the number of rows; or, where rows that are equal to the statistic were put together, how many rows
            each kind has, shape (kinds,).
        seed: the same seed and rows give the same interval.

    Raises:
        DataError: there are no rows.
    """
    sizes = np.ones(counts) if isinstance(counts, int) else np.asarray(counts, np.float64)
    total = int(sizes.sum()) if len(sizes) else 0
    if not total:
        raise DataError("there are no rows to evaluate on")
    estimates = {name: float(values[0]) for name, values in statistic(sizes[None, :]).items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in estimates}
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK_VALUES // len(sizes))
    for start in range(0, replicates, step):
        weights = _draw(generator, sizes, total, min(step, replicates - start))
        for name, values in statistic(weights).items():
            drawn[name].append(values)
    found: dict[str, float] = {}
    for name, estimate in estimates.items():
        if np.isnan(estimate):
            continue
        values = np.concatenate(drawn[name])
        values = values[~np.isnan(values)]
        bounds = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(values) else np.full(2, estimate)
        found[name] = estimate
        found[f"{name}_low"] = min(float(bounds[0]), estimate)
        found[f"{name}_high"] = max(float(bounds[1]), estimate)
    return found


def _draw(generator: np.random.Generator, sizes: Floats, total: int, resamples: int) -> Floats:
    """How often each kind of row is among ``total`` draws, shape (resamples, kinds)."""
    if len(sizes) < total:
        return generator.multinomial(total, sizes / total, size=resamples).astype(np.float64)
    rows = generator.integers(0, total, size=(resamples, total))
    rows += np.arange(resamples)[:, None] * total
    return np.bincount(rows.ravel(), minlength=resamples * total).reshape(resamples, total).astype(np.float64)


def ratio(over: Floats, under: Floats, otherwise: float = 0.0) -> Floats:
    """``over / under``, and ``otherwise`` where that is not defined."""
    result: Floats = np.full(np.broadcast(over, under).shape, otherwise)
    np.divide(over, under, out=result, where=under != 0)
    return result

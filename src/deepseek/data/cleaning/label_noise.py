"""Which labels are wrong, given what a model says about rows that it was not trained on.

Confident learning (Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels")
counts how often confident predictions contradict the labels. ``cleanlab`` implements it, and is what the method
``confident-learning`` runs. On hard data it flags far too much: a classifier that is right in 78% of cases disagrees
with every fifth label, and most of those labels are right.

The method ``posterior`` (the default) asks for each row how probable it is that its label is an error, and flags the
set with the best expected F1:

1. *Calibration.* Isotonic regression over all (row, class) pairs says how often a predicted probability comes true.
2. *Noise floor.* Where the model is surest, disagreement is noise and not difficulty. The smallest rate of disagreement
   among the 5% to 50% of rows that it is surest of estimates the share of wrong labels, ``e``.
3. *Bayes.* A wrong label is taken to be any other class with equal probability. With the calibrated probability ``s``
   of the given label and ``u = e / (classes - 1)``, the label was right with probability ``p = (s - u) / (1 - e - u)``
   before it was seen, and is an error with probability ``q = (1 - p) u / ((1 - p) u + p (1 - e))``.
4. *How many.* Of the rows sorted by ``q``, the first ``k`` have the expected F1 ``2 sum(q[:k]) / (k + sum(q))``; the
   best ``k`` is taken (Lipton, Elkan & Naryanaswamy 2014, "Optimal Thresholding of Classifiers to Maximize F1").

Shapes: ``n`` rows, ``k`` classes. State: 13 bytes a row and two histograms, so that probabilities can be given in
batches and need not be kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deepseek.errors import require

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
Ints = np.ndarray[Any, np.dtype[np.integer[Any]]]

_BINS = 2048
_LOGIT = 16.0  # the histograms reach from -16 to 16: probabilities from 1e-7 to 1 - 1e-7
_GROUPS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_SMALLEST_GROUP = 100


@dataclass(frozen=True, kw_only=True)
class NoisyRows:
    """Rows whose labels are probably wrong, the likeliest error first.

    ``positions`` count in the rows as given, ``suggested`` are class codes, ``error`` is the probability that the label
    is wrong, ``noise_rate`` the estimated share of wrong labels in all rows.
    """

    positions: Ints
    suggested: Ints
    error: Floats
    noise_rate: float


class NoiseModel:
    """Collects out-of-sample probabilities batch by batch, then names the rows whose labels are probably wrong."""

    def __init__(self, count: int, classes: int) -> None:
        self._classes = classes
        self._own = np.full(count, np.nan, np.float32)
        self._top = np.zeros(count, np.float32)
        self._other = np.zeros(count, np.int32)
        self._agrees = np.zeros(count, np.bool_)
        self._pairs = np.zeros(_BINS, np.int64)
        self._hits = np.zeros(_BINS, np.int64)

    def add(self, positions: Ints, probabilities_nk: Floats, given_n: Ints) -> None:
        """Take the probabilities of some rows; each row may come once."""
        rows = np.arange(len(given_n))
        own = probabilities_nk[rows, given_n]
        others_nk = np.array(probabilities_nk, dtype=np.float32)
        others_nk[rows, given_n] = -1
        best = others_nk.argmax(axis=1)
        self._own[positions] = own
        self._other[positions] = best
        self._agrees[positions] = own >= others_nk[rows, best]
        self._top[positions] = np.maximum(own, others_nk[rows, best])
        self._pairs += np.bincount(_bins(probabilities_nk.ravel()), minlength=_BINS)
        self._hits += np.bincount(_bins(own), minlength=_BINS)

    def noise_rate(self) -> float:
        """The estimated share of wrong labels: the disagreement that remains where the model is surest."""
        judged = np.flatnonzero(~np.isnan(self._own))
        order = judged[np.argsort(-self._top[judged], kind="stable")]
        wrong = np.cumsum(~self._agrees[order])
        sizes = [int(share * len(order)) for share in _GROUPS]
        sizes = [size for size in sizes if size >= _SMALLEST_GROUP] or [len(order)]
        return float(min((wrong[size - 1] + 1) / (size + 2) for size in sizes)) if len(order) else 0.0

    def find(self, min_probability: float | None = None) -> NoisyRows:
        """The rows to flag: the set with the best expected F1, or all whose probability of error is high enough."""
        judged = np.flatnonzero(~np.isnan(self._own))
        rate = self.noise_rate()
        error = self._error(self._own[judged], rate)
        # equal probabilities are common (isotonic regression makes steps): the model's own doubt orders them
        order = np.lexsort((self._own[judged], -error))
        if min_probability is None:
            expected = 2 * np.cumsum(error[order]) / (np.arange(1, len(order) + 1) + error.sum())
            chosen = order[: int(expected.argmax()) + 1] if len(order) and error.sum() > 0 else order[:0]
        else:
            chosen = order[error[order] >= min_probability]
        chosen = chosen[~self._agrees[judged[chosen]]]  # nothing to suggest where the given label is the likeliest
        positions = judged[chosen]
        return NoisyRows(positions=positions, suggested=self._other[positions], error=error[chosen], noise_rate=rate)

    def _error(self, own: Floats, rate: float) -> Floats:
        full = self._pairs > 0
        isotonic = require("sklearn.isotonic", "clean").IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        isotonic.fit(np.flatnonzero(full), self._hits[full] / self._pairs[full], sample_weight=self._pairs[full])
        calibrated = isotonic.predict(_bins(own))
        rate = min(rate, 1 - 1 / self._classes - 1e-3)  # at 1 - 1/K a label would say nothing about its row
        flip = rate / (self._classes - 1)
        right = np.clip((calibrated - flip) / (1 - rate - flip), 0, 1)
        return np.asarray((1 - right) * flip / np.maximum((1 - right) * flip + right * (1 - rate), 1e-12))


def _bins(probabilities: Floats) -> Ints:
    clipped = np.clip(np.asarray(probabilities, np.float64), 1e-9, 1 - 1e-9)
    logits = np.log(clipped) - np.log1p(-clipped)
    return np.clip((logits + _LOGIT) * (_BINS / (2 * _LOGIT)), 0, _BINS - 1).astype(np.int64)

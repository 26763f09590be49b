"""The two small models of the contest, as functions on arrays; imported by every contestant, so NumPy alone at the top.

The identity shows the gateway's rate. The other is a gradient-boosted classifier of 16 features, as tabular services
have them: each process trains it from the same seeded rows, so that all have the same trees and none loads a pickle.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

FEATURES = 16
CLASSES = 2
IDENTITY, TABULAR = "identity", "tabular"
VARIABLE = "BENCH_MODEL"

Model = Callable[[Any], Any]
"""Rows of float32 (rows, 16) to rows of float32: (rows, 16) of the identity, probabilities (rows, 2) of the other."""


def model_called(name: str) -> Model:
    """Build a model."""
    return {IDENTITY: _identity, TABULAR: _tabular}[name]()


def width(name: str) -> int:
    """How many numbers a row of the answer has."""
    return {IDENTITY: FEATURES, TABULAR: CLASSES}[name]


def _identity() -> Model:
    return lambda rows: rows


def _tabular() -> Model:
    import numpy as np
    from sklearn.ensemble import GradientBoostingClassifier

    drawn = np.random.default_rng(0)
    rows = drawn.normal(size=(2_000, FEATURES)).astype(np.float32)
    target = (rows[:, :4].sum(axis=1) + rows[:, 4] * rows[:, 5] + drawn.normal(size=len(rows)) > 0).astype(int)
    classifier = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=0).fit(rows, target)
    return lambda given: classifier.predict_proba(given).astype(np.float32)


def numpy_rows(rows: Any) -> Any:
    """Lists of 16 numbers, as JSON has them, as an array."""
    import numpy as np

    return np.asarray(rows, dtype=np.float32)


def chosen() -> tuple[str, Model]:
    """The model that a server's environment names, and its name."""
    name = os.environ[VARIABLE]
    return name, model_called(name)

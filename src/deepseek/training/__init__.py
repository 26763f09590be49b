"""A table in, a trained model out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.training.baseline import tfidf_baseline
    from deepseek.training.config import TrainingConfig
    from deepseek.training.trainer import FitResult, fit

_PUBLIC = {
    "FitResult": "deepseek.training.trainer",
    "TrainingConfig": "deepseek.training.config",
    "fit": "deepseek.training.trainer",
    "tfidf_baseline": "deepseek.training.baseline",
}

__all__ = ["FitResult", "TrainingConfig", "fit", "tfidf_baseline"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""A table in, a trained model out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.training.baseline import tfidf_baseline
    from deepseek.training.config import TrainingConfig
    from deepseek.training.fine_tuning import FitResult, fit
    from deepseek.training.planned import plan_fit
    from deepseek.training.recipe import AdapterRecipe, TrainingRecipe

_PUBLIC = {
    "AdapterRecipe": "deepseek.training.recipe",
    "FitResult": "deepseek.training.fine_tuning",
    "TrainingConfig": "deepseek.training.config",
    "TrainingRecipe": "deepseek.training.recipe",
    "fit": "deepseek.training.fine_tuning",
    "plan_fit": "deepseek.training.planned",
    "tfidf_baseline": "deepseek.training.baseline",
}

__all__ = ["AdapterRecipe", "FitResult", "TrainingConfig", "TrainingRecipe", "fit", "plan_fit", "tfidf_baseline"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

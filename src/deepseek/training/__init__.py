"""A table in, a trained model out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

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


__getattr__ = names_of(__name__, _PUBLIC)

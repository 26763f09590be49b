"""The one description of a run: data -> model -> training -> evaluation -> serving, as typed YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.recipe.problems import RecipeError
    from deepseek.recipe.reader import load_recipe, read_recipe
    from deepseek.recipe.runner import RunResult, run_recipe
    from deepseek.recipe.schema import Recipe, json_schema
    from deepseek.recipe.tuning import plan_recipe, tune_recipe

_PUBLIC = {
    "Recipe": "deepseek.recipe.schema",
    "RecipeError": "deepseek.recipe.problems",
    "RunResult": "deepseek.recipe.runner",
    "json_schema": "deepseek.recipe.schema",
    "load_recipe": "deepseek.recipe.reader",
    "plan_recipe": "deepseek.recipe.tuning",
    "read_recipe": "deepseek.recipe.reader",
    "run_recipe": "deepseek.recipe.runner",
    "tune_recipe": "deepseek.recipe.tuning",
}

__all__ = [
    "Recipe",
    "RecipeError",
    "RunResult",
    "json_schema",
    "load_recipe",
    "plan_recipe",
    "read_recipe",
    "run_recipe",
    "tune_recipe",
]


__getattr__ = names_of(__name__, _PUBLIC)

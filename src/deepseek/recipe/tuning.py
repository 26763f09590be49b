"""What a recipe would take, and which settings of it are best: the rows are prepared once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from deepseek.errors import ConfigError, DataError
from deepseek.recipe.pretraining import check_pretraining, pretrained
from deepseek.recipe.schema import Recipe
from deepseek.recipe.stages import make_ready
from deepseek.resources import Steps

if TYPE_CHECKING:
    from deepseek.training.planning import Plan
    from deepseek.training.search import SearchResult


def plan_recipe(recipe: Recipe, folder: str | os.PathLike[str]) -> Plan:
    """Prepare the rows in ``folder`` and say how training would be done, and what memory and time it would take.

    Raises:
        ConfigError, DataError, FetchError: as :func:`deepseek.recipe.run_recipe`; no settings fit the budgets.
    """
    from deepseek.training import plan_fit

    ready = make_ready(recipe, Path(folder).expanduser(), Steps())
    return plan_fit(ready.checkpoint.path, ready.table, recipe)


def tune_recipe(recipe: Recipe, folder: str | os.PathLike[str], *, resume: bool = False) -> SearchResult:
    """Run the search that ``recipe.search`` describes in ``folder``; the best recipe is ``search/best.yaml`` there.

    Trials are compared on the validation rows, never on the test rows.

    Raises:
        ConfigError: the recipe has no ``search``, or a path or value of it does not fit; no trial was started.
        DataError: the split leaves no validation rows.
        SearchError: no trial completed.
    """
    from deepseek.training.search import fit_objective, search

    if recipe.search is None:
        raise ConfigError(
            "the recipe has no 'search'; add what to vary, such as\n"
            "search:\n  parameters:\n    training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}"
        )
    if fixed := [path for path in recipe.search.parameters if path.startswith("model.")]:
        raise ConfigError(
            f"all trials start from the same weights, so a search cannot vary {', '.join(fixed)}; run a recipe for each"
        )
    target = Path(folder).expanduser()
    check_pretraining(recipe)
    ready = make_ready(recipe, target, Steps(), resume=resume)
    if not ready.rows.get("validation"):
        raise DataError(
            f"a search compares trials on validation rows, and there are none ({ready.rows}); set data.split.validation"
        )
    base = pretrained(ready.checkpoint, ready.table, recipe, target, resume=resume)
    plain = recipe.model_copy(update={"search": None})
    objective = fit_objective(base.path, ready.table)
    return search(plain, recipe.search, objective, target / "search", resume=resume)

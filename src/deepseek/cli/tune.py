"""``deepseek tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[str, typer.Argument(help="A YAML file with a 'search' part, or a shipped recipe's name.")],
    output: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME-search.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials; default: the recipe's.")] = None,
    parallel: Annotated[int | None, typer.Option(help="Trials at once, in processes of their own.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted search in its folder.")] = False,
) -> None:
    """Search for the best settings of a recipe: Optuna here, Ray Tune on a cluster (search.launcher: ray).

    Trials that fall behind are given up early. A search that was stopped goes on with --resume. The best recipe is
    written as search/best.yaml in the run folder, with tables and plots beside it.

    Examples:

      deepseek tune my-recipe.yaml --trials 30

      deepseek train runs/my-recipe-search/search/best.yaml

    The part of the recipe that says what to vary:

      search:
        parameters:
          training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
          adapter.r: {choices: [4, 8, 16, 32]}
    """
    from deepseek.recipe import load_recipe, tune_recipe
    from deepseek.training.search import table_text

    loaded = load_recipe(recipe)
    changes = {k: v for k, v in (("trials", trials), ("parallel", parallel)) if v is not None}
    if changes and loaded.search is not None:
        search = type(loaded.search).model_validate({**loaded.search.model_dump(), **changes})
        loaded = loaded.model_copy(update={"search": search})
    result = tune_recipe(loaded, output or Path("runs") / f"{loaded.name}-search", resume=resume)
    typer.echo(table_text(result))
    typer.echo(f"\nTrain the best:  deepseek train {result.folder / 'best.yaml'}")

"""``deepseek train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[
        str, typer.Argument(help="A YAML file, or the name of a shipped recipe such as 'quickstart'.")
    ] = "",
    output: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in its folder.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the recipe.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the recipe's JSON schema, for editors.")] = False,
) -> None:
    """Run a recipe: rows -> cleaned table -> trained model -> bundle with its scores.

    Examples:

      deepseek train quickstart

      deepseek train my-recipe.yaml --output runs/first

      deepseek train --schema > recipe.schema.json
    """
    from deepseek.errors import ConfigError

    if schema:
        import json

        from deepseek.recipe import json_schema

        typer.echo(json.dumps(json_schema(), indent=2))
        return
    if not recipe:
        raise ConfigError("expected a recipe: deepseek train RECIPE.yaml (or a shipped one: deepseek train quickstart)")
    from deepseek.recipe import load_recipe

    loaded = load_recipe(recipe)
    if check:
        typer.echo(f"{recipe} is a valid recipe for {loaded.task['name']!r} on {loaded.data.source!r}")
        return
    from deepseek.cli.run_report import print_run
    from deepseek.recipe import run_recipe

    result = run_recipe(loaded, output or Path("runs") / loaded.name, resume=resume)
    print_run(result)
    typer.echo(
        f"\nTry it:  deepseek predict {result.bundle.path} --text '...'\nServe:   deepseek serve {result.bundle.path}"
    )

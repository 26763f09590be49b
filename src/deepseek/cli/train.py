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
    change: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Change a setting: -s training.epochs=3. Repeatable.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Let the planner choose settings that stay below this, such as 2GB.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Let the planner choose settings that take no longer, such as 10m.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train together.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Prepare the rows, print what training would take, train nothing.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the recipe.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the recipe's JSON schema, for editors.")] = False,
) -> None:
    """Run a recipe: rows -> cleaned table -> trained model -> bundle with its scores.

    Examples:

      deepseek train quickstart

      deepseek train my-recipe.yaml --output runs/first -s training.epochs=3 -s adapter.r=8

      deepseek train my-recipe.yaml --plan --memory 2GB

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
    from deepseek.cli.settings import overrides
    from deepseek.recipe import load_recipe
    from deepseek.training.search import with_overrides

    loaded = load_recipe(recipe)
    changes = overrides(change or [])
    changes |= {f"training.plan.{name}": value for name, value in (("memory", memory), ("time", time)) if value}
    if workers is not None:
        changes["training.distributed.workers"] = workers
    if plan and loaded.training.plan is None and not (memory or time):
        changes["training.plan"] = {}
    loaded = with_overrides(loaded, changes)
    if check:
        typer.echo(f"{recipe} is a valid recipe for {loaded.task['name']!r} on {loaded.data.source!r}")
        return
    target = output or Path("runs") / loaded.name
    if plan:
        from deepseek.recipe import plan_recipe

        typer.echo(str(plan_recipe(loaded, target)))
        return
    from deepseek.cli.run_report import print_run
    from deepseek.recipe import run_recipe

    result = run_recipe(loaded, target, resume=resume)
    print_run(result)
    example = "picture.png" if loaded.build_task().signature.inputs[0].dtype == "bytes" else "'...'"
    path = result.bundle.path
    typer.echo(f"\nTry it:  deepseek predict {path} --text {example}\nServe:   deepseek serve {path}")

"""Read a recipe from YAML and check all of it before any work starts."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deepseek.errors import UnknownNameError
from deepseek.recipe.problems import Location, Problem, RecipeError, problems_of
from deepseek.recipe.schema import Recipe
from deepseek.recipe.scratch import scratch_problems
from deepseek.tasks import TASKS


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    files = resources.files("deepseek.recipes").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def load_recipe(name_or_path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe file, or a recipe that ships with the package by its name (``"quickstart"``).

    Raises:
        UnknownNameError: there is no such file and no such shipped recipe.
        RecipeError: the file is not YAML, or a key or value is wrong; all problems are listed.
    """
    path = Path(name_or_path)
    if path.is_file():
        try:
            return read_recipe(path.read_text(encoding="utf-8"), source=str(path))
        except UnicodeDecodeError as error:
            problem = Problem(
                "", None, f"expected UTF-8 text, received byte 0x{error.object[error.start]:02x} at {error.start}"
            )
            raise RecipeError(str(path), [problem]) from error
    name = os.fspath(name_or_path)
    if name in shipped_recipes():
        return read_recipe(
            (resources.files("deepseek.recipes") / f"{name}.yaml").read_text(encoding="utf-8"), source=name
        )
    raise UnknownNameError(
        "recipe",
        name,
        shipped_recipes(),
        hint="Give the path of a YAML file, or a shipped recipe's name such as 'quickstart'.",
    )


def read_recipe(text: str, *, source: str = "the recipe") -> Recipe:
    """Parse and check a recipe's YAML text.

    Raises:
        RecipeError: with the path of each wrong key, its line, what was expected and what came.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        raise RecipeError(
            source, [Problem("", mark.line + 1 if mark else None, f"not valid YAML: {reason}")]
        ) from error
    if not isinstance(document, dict):
        received = "nothing" if document is None else type(document).__name__
        raise RecipeError(
            source, [Problem("", None, f"expected keys and values (name, task, data, model, ...), received {received}")]
        )
    lines = _lines(node)
    problems: list[Problem] = []
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        problems += problems_of(error, Recipe, lines=lines)
    problems += _task_problems(document.get("task"), lines)
    if recipe is not None and not problems:
        problems += _architecture_problems(recipe, lines)
    if problems or recipe is None:
        raise RecipeError(source, problems)
    return recipe


def _task_problems(task: Any, lines: dict[Location, int]) -> list[Problem]:
    if not isinstance(task, dict):
        return []  # its absence or wrong type is reported with the other fields
    line = lines.get(("task", "name"), lines.get(("task",)))
    if not isinstance(task.get("name"), str):
        return [
            Problem("task.name", line, f"expected one of: {', '.join(TASKS.names())}, received {task.get('name')!r}")
        ]
    try:
        kind = TASKS.get(task["name"])
    except UnknownNameError as error:
        return [Problem("task.name", line, str(error))]
    try:
        kind.model_validate({k: v for k, v in task.items() if k != "name"})
    except ValidationError as error:
        return problems_of(error, kind, prefix=("task",), lines=lines)
    return []


def _architecture_problems(recipe: Recipe, lines: dict[Location, int]) -> list[Problem]:
    place = ("model", "architecture")
    return [
        Problem(".".join((*place, field)), lines.get((*place, field)), message)
        for field, message in scratch_problems(recipe).items()
    ]


def _lines(node: yaml.Node | None, path: Location = ()) -> dict[Location, int]:
    found: dict[Location, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            found[here] = key.start_mark.line + 1
            found |= _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            found[(*path, i)] = item.start_mark.line + 1
            found |= _lines(item, (*path, i))
    return found

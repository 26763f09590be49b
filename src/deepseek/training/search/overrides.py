"""A recipe with some of its settings replaced, by dotted path, and validated as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.tasks import TASKS
from deepseek.training.recipe import TrainingRecipe
from deepseek.training.search.config import Choices, Range

Recipe = TypeVar("Recipe", bound=TrainingRecipe)


def with_overrides(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with each dotted path of ``values`` set.

    A part that is null, such as ``adapter``, is made with its defaults when something inside it is set.

    Raises:
        UnknownNameError: a path is not a setting of the recipe; the message has the nearest ones.
        ConfigError: a value does not fit its setting.
    """
    settings = recipe.model_dump(mode="json")
    for path, value in values.items():
        check_path(recipe, path)
        *parts, last = path.split(".")
        place = settings
        for part in parts:
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        place[last] = value
    try:
        changed = type(recipe).model_validate(settings)
        changed.build_task()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        for path in values:  # a task's options are validated by the task, without the path to them
            if path.startswith("task.") and path.removeprefix("task.") == where:
                where = path
        raise ConfigError(f"{where}: {first['msg']}, received {first['input']!r}") from error
    return changed


def check_path(recipe: TrainingRecipe, path: str) -> None:
    """Raise :class:`UnknownNameError` unless ``path`` is a setting of the recipe."""
    known = paths(recipe)
    if path not in known and not any(path.startswith(f"{open_}.") for open_ in known if known[open_]):
        raise UnknownNameError("setting", path, known)


def paths(recipe: TrainingRecipe) -> dict[str, bool]:
    """All dotted paths of a recipe's settings, and whether each may have free keys below (a dict, an architecture)."""
    found: dict[str, bool] = {}
    _walk(type(recipe), "", found)
    found["task"] = False
    name = str(recipe.task.get("name"))
    found |= {f"task.{option}": False for option in TASKS.get(name).model_fields}
    return found


def check_space(recipe: TrainingRecipe, parameters: Mapping[str, Range | Choices]) -> None:
    """Validate the recipe at the ends of each range and at each choice, before any trial.

    Raises:
        UnknownNameError, ConfigError: see :func:`with_overrides`.
    """
    for path in parameters:
        check_path(recipe, path)
    for path, values in parameters.items():
        for value in values.choices if isinstance(values, Choices) else (values.low, values.high):
            others = {p: v.choices[0] if isinstance(v, Choices) else v.low for p, v in parameters.items() if p != path}
            try:
                with_overrides(recipe, {**others, path: value})
            except ConfigError as error:
                raise ConfigError(f"the search would try {path} = {value!r}: {error}") from error


def _walk(model: type[BaseModel], prefix: str, found: dict[str, bool]) -> None:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        kinds = [field.annotation, *get_args(field.annotation)]
        found[path] = any(kind is dict or getattr(kind, "__origin__", None) is dict for kind in kinds)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[path] |= kind.model_config.get("extra") == "allow"
                _walk(kind, f"{path}.", found)

"""What is wrong with a recipe: where, what was expected, what came, and the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from deepseek.errors import ConfigError, nearest

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One problem of a recipe: ``path`` is dotted (``training.epochs``), ``line`` counts from 1."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line else ""
        return f"{self.path or 'the recipe'}{where}: {self.message}"


class RecipeError(ConfigError):
    """A recipe is wrong; nothing was started. ``problems`` has all that was found, in the order of the file."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(problems, key=lambda p: (p.line or 0, p.path)))
        count = len(self.problems)
        lines = "\n".join(f"  - {p}" for p in self.problems)
        super().__init__(f"{source} has {count} problem{'s' if count > 1 else ''}; nothing was started:\n{lines}")


def describe(error: ErrorDetails, fields: Iterable[str]) -> str:
    """One pydantic error as a sentence; ``fields`` are the keys that are valid where the error is."""
    kind, received = error["type"], error.get("input")
    context = error.get("ctx", {})
    known = sorted(fields)
    if kind == "extra_forbidden":
        name = str(error["loc"][-1])
        near = nearest(name, known)
        guess = f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(known)}"
        return f"unknown key {name!r}; {guess}"
    if kind == "missing":
        return f"expected a value for {str(error['loc'][-1])!r}, received nothing"
    if kind in {"literal_error", "enum"}:
        choices = str(context.get("expected", ""))
        options = [c.strip().strip("'") for c in choices.replace(" or ", ",").split(",") if c.strip()]
        near = nearest(str(received), options)
        return f"expected {choices}, received {received!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind == "value_error":  # our own, which say all of it
        return error["msg"].removeprefix("Value error, ")
    expected = error["msg"].removeprefix("Input should be ")
    return f"expected {expected}, received {_short(received)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def problems_of(
    error: ValidationError,
    model: type[BaseModel],
    *,
    prefix: Location = (),
    lines: Mapping[Location, int] | None = None,
) -> list[Problem]:
    """All that is wrong with the values given for ``model``; ``prefix``: where they stand in the file of ``lines``."""
    known = lines or {}
    found = []
    for detail in error.errors():
        location: Location = prefix + detail["loc"]
        line = next((known[location[:n]] for n in range(len(location), 0, -1) if location[:n] in known), None)
        message = describe(detail, fields_at(model, detail["loc"][:-1]))
        found.append(Problem(".".join(map(str, location)), line, message))
    return found


def fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """The valid keys of the part of ``model`` that ``location`` points into."""
    current: type[BaseModel] | None = model
    for key in location:
        if current is None or not isinstance(key, str) or key not in current.model_fields:
            return []
        current = _model_of(current.model_fields[key].annotation)
    return list(current.model_fields) if current else []


def _model_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)

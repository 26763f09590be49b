"""What trials report and how a search ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from deepseek.errors import ConfigError, DeepSeekError
from deepseek.training.recipe import TrainingRecipe


class SearchError(DeepSeekError, RuntimeError):
    """A search has no trial to choose from."""


class ObjectiveError(ConfigError):
    """An objective does not report what the search needs; no other trial would."""


class Pruned(Exception):  # noqa: N818 - it is how a trial ends, not what went wrong
    """The trial is not worth going on with; ``report`` raises it, and the objective lets it pass."""


class Objective(Protocol):
    """Trains with a recipe, reports its metrics at steps on the way, and returns those at the end."""

    def __call__(self, recipe: Any, report: Report, /) -> Mapping[str, float] | float: ...


class Report:
    """Called by an objective as ``report(step, metrics)``; raises :class:`Pruned` when the trial shall end.

    Attributes:
        folder: a folder for this trial; the same one when a trial that was interrupted runs again.
        number: the trial's number, from 0.
    """

    def __init__(self, folder: Path, number: int, prunes: Callable[[int, dict[str, float]], bool]) -> None:
        self.folder, self.number, self._prunes = folder, number, prunes

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._prunes(int(step), {name: float(value) for name, value in metrics.items()}):
            raise Pruned


@dataclass(frozen=True)
class Trial:
    """One trial: the settings it tried, and how it ended.

    ``value`` is the metric that is optimised (``None`` for a failed trial; for a pruned one its last report);
    ``scores`` are the reports as (step, metrics); ``reason`` says why a trial failed.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    parameters: dict[str, Any]
    value: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    scores: tuple[tuple[int, dict[str, float]], ...] = ()
    seconds: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """All trials in the order in which they began, the best of those that completed, and its recipe."""

    trials: tuple[Trial, ...]
    best: Trial
    recipe: TrainingRecipe
    metric: str
    direction: str
    folder: Path
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        from deepseek.training.search.report import table_text

        return table_text(self)

"""Training as an objective: ``fit`` with the trial's recipe, scored on validation rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from deepseek.errors import ConfigError
from deepseek.training.recipe import TrainingRecipe
from deepseek.training.search.trials import ObjectiveError, Report


@dataclass(frozen=True)
class FitObjective:
    """See :func:`fit_objective`; an instance can be sent to other processes."""

    model: str
    table: Any
    validation: Any = None

    def __call__(self, recipe: TrainingRecipe, report: Report) -> dict[str, float]:
        from deepseek.training.fine_tuning import fit

        result = fit(
            self.model, self.table, recipe, validation=self.validation, folder=report.folder, resume=True,
            on_score=report,
        )  # fmt: skip
        if not result.metrics:
            raise ObjectiveError(
                "no scores came back: give fit_objective validation rows, or rows with the split 'validation', and do "
                "not set training.evaluate to 'never'"
            )
        return dict(result.metrics)


def fit_objective(model: str | os.PathLike[str], table: Any, validation: Any = None) -> FitObjective:
    """An objective that trains ``model`` on ``table`` and reports the scores of the validation rows.

    A trial that was interrupted goes on from its last checkpoint when the search is resumed.

    Args:
        model: a name or path, since each trial starts from the checkpoint.
        table, validation: as in ``fit``.

    Raises:
        ConfigError: ``model`` is a loaded model, which the first trial would change.
    """
    if not isinstance(model, str | os.PathLike):
        raise ConfigError(
            f"expected the name or path of a checkpoint, received a loaded {type(model).__name__}: each trial has to "
            "start from the same weights"
        )
    return FitObjective(os.fspath(model), table, validation)

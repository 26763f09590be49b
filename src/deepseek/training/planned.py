"""The plan of a run: made when the run begins, kept in its folder, taken from there when it is resumed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from deepseek import progress
from deepseek.artifacts.cache import write_text
from deepseek.errors import ConfigError
from deepseek.training.encoding.limits import ModelLimits
from deepseek.training.encoding.row_source import Rows, split_rows
from deepseek.training.planning.config import PlanConfig
from deepseek.training.runs.folder import RunFolder
from deepseek.training.setup import encoded_rows, loaded_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepseek.tasks.base import Task
    from deepseek.training.encoding.encoded_rows import EncodedRows
    from deepseek.training.planning import Plan
    from deepseek.training.recipe import TrainingRecipe

FILE = "plan.json"
SAMPLE = 8
"""Rows of the real batch whose keys and shapes the planner stretches."""


def make_plan(
    model: PreTrainedModel, rows: EncodedRows, recipe: TrainingRecipe, task: Task, tokenizer: Any
) -> Plan | None:
    """The plan that ``recipe.training.plan`` asks for, ``None`` if it asks for none.

    Raises:
        ConfigError: no settings fit the budgets, or the model's adapter is there already and cannot be planned.
    """
    from deepseek.training.loop.collation import ROW, collator
    from deepseek.training.planning import plan

    wanted = recipe.training.plan
    if wanted is None:
        return None
    if model.adapter_names():
        raise ConfigError(
            f"the planner chooses how deep adapters go, but the model has {', '.join(model.adapter_names())} already; "
            "give fit the model without an adapter, and the adapter in the recipe"
        )
    collate = collator(task, tokenizer, seed=recipe.seed, epoch=lambda: 0)
    batch = collate([rows[i] for i in range(min(SAMPLE, len(rows)))])
    batch.pop(ROW)
    return plan(
        model,
        rows.lengths,
        recipe,
        memory=wanted.memory,
        time=wanted.time,
        calibrate=wanted.calibrate,
        allow_shallow=wanted.allow_shallow,
        allow_cache=wanted.allow_cache,
        task=task,
        batch=batch,
    )


def planned(
    model: PreTrainedModel, rows: EncodedRows, recipe: TrainingRecipe, task: Task, tokenizer: Any, folder: Path,
    *, resumed: bool,
) -> tuple[TrainingRecipe, Plan | None]:  # fmt: skip
    """The recipe with the plan's settings, and the plan, if one is asked for.

    A resumed run takes the plan that it began with: a new one may have other settings, which give other weights.

    Raises:
        ConfigError: as :func:`make_plan`; or the folder's plan cannot be read.
    """
    from deepseek.training.planning import Plan

    path = folder / FILE
    if recipe.training.plan is None:
        return recipe, None
    found: Plan | None
    if resumed and path.is_file():
        try:
            found = Plan.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise ConfigError(f"{path} is not a plan; start the run anew: {error}") from error
    else:
        found = make_plan(model, rows, recipe, task, tokenizer)
        assert found is not None
        write_text(path, found.model_dump_json(indent=1) + "\n")
        progress.console().print(str(found), style="dim", highlight=False)
    return found.apply(recipe), found


def plan_fit(
    model: PreTrainedModel | str | os.PathLike[str], table: Rows, recipe: TrainingRecipe, *, tokenizer: Any = None
) -> Plan:
    """What ``fit`` would do and take under ``recipe.training.plan`` (default: what memory is free), without training.

    Args:
        model, table, recipe, tokenizer: as :func:`deepseek.training.fit` takes them.

    Raises:
        DataError, ConfigError: as ``fit``; no settings fit the budgets.
    """
    if recipe.training.plan is None:
        training = recipe.training.model_copy(update={"plan": PlanConfig()})
        recipe = recipe.model_copy(update={"training": training})
    train_rows, _ = split_rows(table, None)
    with train_rows.numbered():
        task = recipe.build_task().fitted(train_rows)
    model, tokenizer = loaded_model(model, tokenizer, task)
    with tempfile.TemporaryDirectory(prefix="deepseek-plan-") as folder:
        rows = encoded_rows(RunFolder(Path(folder), main=True), train_rows, task, tokenizer, ModelLimits.of(model))
        found = make_plan(model, rows, recipe, task, tokenizer)
    assert found is not None
    return found

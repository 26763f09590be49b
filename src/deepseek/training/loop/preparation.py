"""What is decided or computed once the features are there: the plan, and the states of frozen lower layers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from deepseek import progress
from deepseek.artifacts.cache import write_text
from deepseek.training.encoding.encoded_rows import EncodedRows
from deepseek.training.loop.arguments import has_gpu
from deepseek.training.loop.collation import collator
from deepseek.training.loop.processes import on_main
from deepseek.training.recipe import TrainingRecipe
from deepseek.training.runs.folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepseek.tasks.base import Task
    from deepseek.training.config import TrainingConfig

PLAN = "plan.json"


def planned(
    recipe: TrainingRecipe, model: PreTrainedModel, task: Task, rows: EncodedRows, home: RunFolder
) -> TrainingRecipe:
    """The recipe with the settings that the planner chose, if it asks for a plan; a resumed run keeps its plan.

    Raises:
        ConfigError: nothing fits the budgets.
    """
    wanted = recipe.training.plan
    if wanted is None:
        return recipe
    from deepseek.training.planning import Plan, plan

    def decide() -> Plan:
        kept = home.path / PLAN
        if kept.is_file():
            return Plan.model_validate_json(kept.read_text(encoding="utf-8"))
        found = plan(model, rows.lengths, recipe, memory=wanted.memory, time=wanted.time, task=task)
        write_text(kept, found.model_dump_json(indent=2))
        progress.console().print(str(found), style="dim", highlight=False)
        return found

    return on_main(decide).apply(recipe)


def kept_states(
    model: PreTrainedModel,
    task: Task,
    tokenizer: Any,
    rows: EncodedRows,
    home: RunFolder,
    settings: TrainingConfig,
    stack: ExitStack,
) -> Any:
    """The stored states of the frozen lower layers, in use until ``stack`` closes.

    Raises:
        ConfigError: the states are not the same in each epoch, or no lower layers are frozen.
    """
    from deepseek.training.frozen import FrozenCache

    if has_gpu():
        model.to("cuda")  # type: ignore[arg-type]
    collate = collator(task, tokenizer, seed=0, epoch=lambda: 0)
    folder = home.path / "frozen"

    def build() -> FrozenCache:
        return FrozenCache.build(model, rows, collate, folder, batch_size=settings.batch_size)

    def first() -> None:
        build().close()

    on_main(first)
    cache = build()  # found, not computed
    stack.callback(cache.close)
    stack.enter_context(cache.attached(model))
    return cache

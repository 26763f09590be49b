"""A model that starts from scratch: its tokenizer is trained on the training rows, its weights are drawn.

What comes of it is a folder in the run's, ``scratch``, which everything after it takes for a checkpoint like any other.
Held-out rows are not read: a tokenizer that knew their words would make them look easier than new text is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.models import Checkpoint, resolve
from deepseek.models.architecture import write_new_checkpoint

if TYPE_CHECKING:
    from deepseek.data import Table
    from deepseek.recipe.schema import Recipe
    from deepseek.tasks.base import Task

NAME = "scratch"


def scratch_problems(recipe: Recipe) -> dict[str, str]:
    """What is wrong with ``recipe.model.architecture``, by field; empty for a recipe that starts from a base."""
    if recipe.model.architecture is None:
        return {}
    task = recipe.build_task()
    if type(task).processor != "tokenizer":
        return {"type": f"only models of text are made from scratch, and {task.name} reads {task.input_columns[0]}"}
    return recipe.model.architecture.problems(type(task).head)


def check_scratch(recipe: Recipe) -> None:
    """Refuse an architecture that cannot be made, before any work.

    Raises:
        ConfigError: with the field, what was expected and what was received.
    """
    for field, message in scratch_problems(recipe).items():
        raise ConfigError(f"model.architecture.{field}: {message}")


def from_scratch(recipe: Recipe, task: Task, table: Table, folder: Path, *, resume: bool = False) -> Checkpoint:
    """The checkpoint that ``recipe.model.architecture`` and its tokenizer make, in ``folder / "scratch"``.

    Args:
        task: with what it learned from the training rows.
        table: the prepared rows, of which those with the split ``train`` are read.
        resume: take the one that an interrupted run made.

    Raises:
        ConfigError: the vocabulary has no room for the characters of the texts.
        UnknownNameError, FetchError: a tokenizer that is to be taken over is not known, or cannot be fetched.
    """
    from transformers import set_seed

    architecture, tokenizer = recipe.model.architecture, recipe.model.tokenizer
    assert architecture is not None
    assert tokenizer is not None
    target = folder / NAME
    if not (resume and target.is_dir()):
        columns = [name for name in task.corpus_columns if name in table.columns]
        words = tokenizer.build(
            _texts(table, columns),
            purpose="decoder" if type(task).head == "causal-lm" else "encoder",
            max_length=getattr(task, "max_length", 512),
        )
        set_seed(recipe.seed)
        write_new_checkpoint(architecture, words, target, head=type(task).head, options=task.model_options())
    return resolve(target)


def _texts(table: Table, columns: list[str]) -> Iterator[str]:
    """All strings in the columns of the training rows."""
    for row in table.rows(columns, where="split = 'train'"):
        for value in row.values():
            yield from _strings(value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        yield " ".join(value)  # the tokens of a sentence
    elif isinstance(value, list):
        for message in value:
            yield from _strings(message.get("content"))

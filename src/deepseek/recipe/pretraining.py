"""A base that has read the training texts: masked language modelling without labels, before the task is trained.

Source: Gururangan et al. 2020, "Don't Stop Pretraining" (arXiv:2004.10964), task-adaptive pre-training. No held-out row
is read: they are what the result is measured on.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.artifacts.cache import staged_directory
from deepseek.errors import ConfigError
from deepseek.models import Checkpoint, from_pretrained, processor_for, resolve
from deepseek.training import TrainingRecipe, fit

if TYPE_CHECKING:
    from deepseek.recipe.schema import Recipe

NAME = "pretrained"
RUN = "pretraining"


def check_pretraining(recipe: Recipe) -> None:
    """Refuse what cannot be pre-trained, before any work.

    Raises:
        ConfigError: the task has no single column of text, or the base is quantised.
    """
    if recipe.pretraining is None:
        return
    task = recipe.build_task()
    if len(task.input_columns) != 1 or task.signature.inputs[0].dtype != "string" or task.head == "causal-lm":
        raise ConfigError(
            f"pretraining masks words of one column of text, and {task.name} reads {', '.join(task.input_columns)}"
            f"{' to continue them' if task.head == 'causal-lm' else ''}; leave pretraining out"
        )
    if recipe.model.quantization != "none":
        raise ConfigError(
            "pretraining trains all weights of the base, so it cannot be quantised; leave one of them out"
        )


def pretrained(checkpoint: Checkpoint, rows: Any, recipe: Recipe, folder: Path, *, resume: bool = False) -> Checkpoint:
    """The checkpoint after masked language modelling as ``recipe.pretraining`` says, in ``folder / "pretrained"``.

    Args:
        rows: as :func:`deepseek.training.fit` takes them; of those with a split only the ``train`` rows are read.
        resume: go on where an interrupted run in ``folder`` stopped; a finished base is taken as it is.

    Raises:
        ConfigError: the base has no masked-language-modelling head.
        TrainingError: a loss was no number, or memory did not suffice.
    """
    settings = recipe.pretraining
    if settings is None:
        return checkpoint
    target = folder / NAME
    if not (resume and target.is_dir()):
        task = {
            "name": "masked-language-modelling",
            "text": recipe.build_task().input_columns[0],
            "max_length": settings.max_length,
            "mask_probability": settings.mask_probability,
            "packing": settings.packing,
        }
        given = TrainingRecipe(seed=recipe.seed, task=task, training=settings.training)
        if not resume:
            shutil.rmtree(folder / RUN, ignore_errors=True)
        done = fit(checkpoint.path, rows, given, folder=folder / RUN, resume=resume)
        # what the language model's head took the place of (a pooler) stays as the checkpoint has it
        whole = from_pretrained(checkpoint, head="none")
        whole.load_state_dict(done.model.base_model.state_dict(), strict=False)
        with staged_directory(target, replace=True) as stage:
            whole.save_pretrained(stage)
            processor_for(checkpoint, "tokenizer").save_pretrained(stage)
        for part in ("checkpoints", "encoded"):
            shutil.rmtree(folder / RUN / part, ignore_errors=True)
    return Checkpoint(path=resolve(target).path, name=checkpoint.name, card=checkpoint.card)

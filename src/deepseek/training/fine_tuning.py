"""``fit``: a model, a table and a recipe in; a trained model out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek import progress
from deepseek.data import Table
from deepseek.errors import ConfigError
from deepseek.models.loading import from_pretrained, quiet_transformers, tokenizer_for
from deepseek.training.config import native_bfloat16
from deepseek.training.distributed import ranks
from deepseek.training.distributed.fitting import fit_on_workers, launches
from deepseek.training.distributed.step_batches import StepBatches
from deepseek.training.distributed.strategy import strategy_arguments
from deepseek.training.loop.trainer import FeatureRows, collator, scorer, trainer_class, watcher
from deepseek.training.recipe import TrainingRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepseek.tasks.base import Task

Rows = Table | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class FitResult:
    """What training made and did.

    Attributes:
        model, task, tokenizer: the trained model, and the task with all that it learned from the rows.
        steps: optimiser steps.
        loss: mean training loss.
        curve: training loss as (step, loss).
        precision: ``"float32"`` or ``"bfloat16"``.
        scores: validation scores as (step, metrics), if rows were scored.
        best_step: the step whose weights the model has.
    """

    model: PreTrainedModel
    task: Task
    tokenizer: Any
    steps: int
    loss: float
    curve: tuple[tuple[int, float], ...]
    precision: str
    scores: tuple[tuple[int, dict[str, float]], ...] = ()
    best_step: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def fit(
    model: PreTrainedModel | str | os.PathLike[str],
    table: Rows,
    recipe: TrainingRecipe,
    *,
    validation: Rows | None = None,
    tokenizer: Any = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_score: Callable[[int, dict[str, float]], None] | None = None,
) -> FitResult:
    """Train ``model`` on the rows of ``table`` as ``recipe`` says.

    Args:
        model: a name or path (:func:`deepseek.models.resolve`), or a loaded model with the head that the task needs;
            a loaded model is trained in place.
        table: a table or rows with inputs and answers. Where rows have a ``split`` column, ``train`` rows are trained
            on and ``validation`` rows are scored; others are left alone.
        recipe: task, adapter and training settings (:class:`TrainingRecipe`, or a whole ``Recipe``).
        validation: rows to score instead of the table's own.
        tokenizer: tokenizer or image processor; ``None`` loads the model's own.
        folder: the run folder: recipe, environment, curves, checkpoints; ``None`` keeps nothing.
        resume: continue from the newest checkpoint in that folder, if there is one.
        on_score: called as ``on_score(step, metrics)`` after each scoring; what it raises ends the training. With
            workers that ``fit`` starts itself it is called when they have ended.

    Raises:
        DataError: a row lacks an input or its answer; nothing was trained.
        ConfigError: the settings do not fit the model, the folder or the hardware.
    """
    from transformers import PrinterCallback, TrainingArguments, set_seed
    from transformers.trainer_utils import get_last_checkpoint

    settings = recipe.training
    if settings.precision == "bfloat16" and not native_bfloat16():
        raise ConfigError(
            "precision bfloat16 was asked for, but this hardware has no native bfloat16; use auto or float32"
        )
    bfloat16 = settings.precision != "float32" and native_bfloat16()
    if launches(settings.distributed):
        done = fit_on_workers(
            model, table, recipe, validation=validation, tokenizer=tokenizer, folder=folder, resume=resume
        )
        set_seed(recipe.seed)  # as in the workers: an adapter keeps the fresh head that it replaces
        if isinstance(model, str | os.PathLike):
            tokenizer = tokenizer or tokenizer_for(model)
            model = from_pretrained(model, head=type(done.task).head, **done.task.model_options())
        if recipe.adapter is not None and recipe.adapter.name not in model.adapter_names():
            model.add_adapter(recipe.adapter.name, recipe.adapter.lora())
        done.load(model)
        model.eval()
        if on_score is not None:
            for step, metrics in done.figures["scores"]:
                on_score(step, metrics)
        return FitResult(**done.figures, model=model, task=done.task, tokenizer=tokenizer)
    rows = list(table.rows(where="split = 'train'")) if isinstance(table, Table) else list(table)
    task = recipe.build_task().fitted(rows)
    set_seed(recipe.seed)  # before loading: a fresh head starts from random weights
    if isinstance(model, str | os.PathLike):
        tokenizer = tokenizer or tokenizer_for(model)
        model = from_pretrained(model, head=type(task).head, **task.model_options())
    if recipe.adapter is not None and recipe.adapter.name not in model.adapter_names():
        model.add_adapter(recipe.adapter.name, recipe.adapter.lora())
    features: list[dict[str, Any]] = []
    with progress.bar("tokenise", len(rows)) as bar:
        for start in range(0, len(rows), 1024):
            features += task.encode(rows[start : start + 1024], tokenizer)
            bar.advance(min(1024, len(rows) - start))
    adapted = bool(getattr(model, "_hf_peft_config_loaded", False))
    if settings.trunk_dropout is not None and adapted:
        _set_trunk_dropout(model, settings.trunk_dropout)
    steps = math.ceil(settings.epochs * math.ceil(len(features) / settings.batch_size))
    home = Path(folder) if folder is not None else None
    batches = StepBatches(
        len(features),
        settings.batch_size,
        micro_batch_size=settings.micro_batch_size,
        workers=ranks.world_size(),
        rank=ranks.rank(),
        seed=recipe.seed,
        lengths=[task.length(f) for f in features] if settings.group_by_length else None,
    )
    save = bool(settings.checkpoint) and home is not None
    arguments = TrainingArguments(
        output_dir=str(home or "."),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=batches.micro_batch_size,
        gradient_accumulation_steps=batches.accumulation,
        learning_rate=settings.learning_rate or (1e-3 if adapted else 5e-5),
        weight_decay=settings.weight_decay,
        warmup_steps=round(settings.warmup_ratio * steps),
        lr_scheduler_type=settings.schedule if settings.schedule != "constant" else "constant_with_warmup",
        max_grad_norm=settings.max_grad_norm,
        bf16=bfloat16,
        use_cpu=not _has_gpu(),
        ddp_backend="gloo" if ranks.launched() and not _has_gpu() else None,
        **(strategy_arguments(settings.distributed) if ranks.launched() else {}),
        save_strategy="epoch" if save else "no",
        save_total_limit=1,
        logging_steps=settings.log_every,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=_has_gpu(),
        seed=recipe.seed,
    )
    curve: list[tuple[int, float]] = []
    with quiet_transformers(), progress.bar("train", steps, "steps") as bar:
        trainer = trainer_class()(
            model=model,
            args=arguments,
            train_dataset=FeatureRows(features),
            data_collator=collator(task, tokenizer),
        )
        trainer.task = task
        trainer.step_batches = batches
        trainer.label_smoothing = settings.label_smoothing
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watcher(bar, curve))
        scores: list[tuple[int, dict[str, float]]] = []
        if validation is not None:
            scored = validation.rows() if isinstance(validation, Table) else validation
            trainer.add_callback(scorer(task, list(scored), tokenizer, scores, on_score))
        newest = get_last_checkpoint(str(home)) if resume and home is not None and home.is_dir() else None
        result = trainer.train(resume_from_checkpoint=newest)
    model = trainer.plain_model()
    model.eval()
    return FitResult(
        model=model,
        task=task,
        tokenizer=tokenizer,
        steps=result.global_step,
        loss=float(result.training_loss),
        curve=tuple(curve),
        precision="bfloat16" if bfloat16 else "float32",
        scores=tuple(scores),
        metrics=scores[-1][1] if scores else {},
    )


def _set_trunk_dropout(model: PreTrainedModel, rate: float) -> None:
    """Set the dropout of the frozen model; an adapter's own dropout is left as its config says."""
    from torch import nn

    for path, module in model.named_modules():
        if isinstance(module, nn.Dropout) and ".lora_" not in path:
            module.p = rate


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())

"""Train a model on rows, with transformers' ``Trainer`` underneath."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek import progress
from deepseek.errors import ConfigError
from deepseek.models.loading import quiet_transformers
from deepseek.training.config import TrainingConfig, native_bfloat16

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from deepseek.tasks.base import Task


LABEL = "labels"
LOG_EVERY = 10
"""Steps that one point of the loss curve averages."""


@dataclass(frozen=True)
class FitResult:
    """What training did: optimiser steps, mean loss, the loss curve as (step, loss), and the precision it ran in."""

    steps: int
    loss: float
    curve: tuple[tuple[int, float], ...]
    precision: str


def fit(
    model: PreTrainedModel,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    config: TrainingConfig | None = None,
    seed: int = 0,
    checkpoints: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> FitResult:
    """Train ``model`` in place: its adapter if it has one, all weights otherwise.

    Args:
        model: a model with the head that ``task`` needs.
        task: a task that was fitted to the rows (it knows its labels).
        rows: training rows with inputs and answers.
        checkpoints: folder for one checkpoint an epoch; ``None`` saves none.
        resume: continue from the newest checkpoint in that folder, if there is one.

    Raises:
        DataError: a row lacks an input or its answer; nothing was trained.
        ConfigError: the settings need a folder or hardware that is not there.
    """
    from transformers import PrinterCallback, TrainingArguments, set_seed
    from transformers.trainer_utils import get_last_checkpoint

    settings = config or TrainingConfig()
    if settings.precision == "bfloat16" and not native_bfloat16():
        raise ConfigError(
            "precision bfloat16 was asked for, but this hardware has no native bfloat16; use auto or float32"
        )
    bfloat16 = settings.precision != "float32" and native_bfloat16()
    labels = task.training_labels(rows)
    with progress.bar("tokenise", len(rows)) as bar:
        features = []
        for start in range(0, len(rows), 1024):
            features += task.prepare(rows[start : start + 1024], tokenizer)
            bar.advance(min(1024, len(rows) - start))
    if settings.trunk_dropout is not None and getattr(model, "_hf_peft_config_loaded", False):
        _set_trunk_dropout(model, settings.trunk_dropout)
    set_seed(seed)
    steps = math.ceil(settings.epochs * math.ceil(len(rows) / settings.batch_size))
    folder = Path(checkpoints) if checkpoints is not None else None
    save = settings.checkpoint and folder is not None
    arguments = TrainingArguments(
        output_dir=str(folder or "."),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=round(settings.warmup_ratio * steps),
        lr_scheduler_type=settings.schedule if settings.schedule != "constant" else "constant_with_warmup",
        max_grad_norm=settings.max_grad_norm,
        bf16=bfloat16,
        use_cpu=not _has_gpu(),
        train_sampling_strategy="group_by_length",
        save_strategy="epoch" if save else "no",
        save_total_limit=1,
        logging_steps=LOG_EVERY,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=_has_gpu(),
        seed=seed,
    )
    curve: list[tuple[int, float]] = []
    with quiet_transformers(), progress.bar("train", steps, "steps") as bar:
        trainer = _trainer_class()(
            model=model,
            args=arguments,
            train_dataset=_FeatureRows(features, labels),
            data_collator=_collator(task, tokenizer),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_watcher(bar, curve))
        newest = get_last_checkpoint(str(folder)) if resume and folder is not None and folder.is_dir() else None
        result = trainer.train(resume_from_checkpoint=newest)
    model.eval()
    return FitResult(
        steps=result.global_step,
        loss=float(result.training_loss),
        curve=tuple(curve),
        precision="bfloat16" if bfloat16 else "float32",
    )


class _FeatureRows:
    """A map-style data set (``torch.utils.data.Dataset`` by duck typing) of features with their labels."""

    def __init__(self, features: list[dict[str, Any]], labels: list[Any]) -> None:
        self._items = [{**f, LABEL: label} for f, label in zip(features, labels, strict=True)]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]


def _collator(task: Task, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    import torch

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = task.collate([{k: v for k, v in item.items() if k != LABEL} for item in items], tokenizer)
        return {**batch, LABEL: torch.tensor([item[LABEL] for item in items])}

    return collate


def _trainer_class() -> type[Any]:
    from transformers import Trainer

    class AdapterTrainer(Trainer):  # type: ignore[misc]
        """transformers' Trainer resumes adapters only when PEFT wraps the model; ours sit inside it."""

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            target = model if model is not None else self.model
            names: list[str] = getattr(target, "adapter_names", list)()
            if names:
                target.restore_adapter(resume_from_checkpoint, target.active_adapters()[0])
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    return AdapterTrainer


def _watcher(bar: progress.Bar, curve: list[tuple[int, float]]) -> TrainerCallback:
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bar.set(state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in (logs or {}):
                curve.append((state.global_step, float(logs["loss"])))
                bar.set(state.global_step, note=f"loss {curve[-1][1]:.3f}")

    return Watcher()


def _set_trunk_dropout(model: PreTrainedModel, rate: float) -> None:
    """Set the dropout of the frozen model; an adapter's own dropout is left as its config says."""
    from torch import nn

    for path, module in model.named_modules():
        if isinstance(module, nn.Dropout) and ".lora_" not in path:
            module.p = rate


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())

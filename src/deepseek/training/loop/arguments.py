"""A :class:`TrainingConfig` as transformers' ``TrainingArguments``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.arithmetic import trains_in_bfloat16
from deepseek.errors import ConfigError
from deepseek.training.distributed.ranks import world_size

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from deepseek.training.config import TrainingConfig

OPTIMIZERS = {"adamw": "adamw_torch_fused", "adafactor": "adafactor", "sgd": "sgd"}
SCHEDULES = {"constant": "constant_with_warmup"}
SCHEDULE_OPTIONS: dict[str, dict[str, float]] = {"polynomial": {"power": 2.0, "lr_end": 0.0}}
"""transformers' own defaults for ``polynomial`` are a straight line, which ``linear`` is already."""

LEARNING_RATE = 5e-5
LEARNING_RATE_FROZEN = 1e-3


def uses_bfloat16(settings: TrainingConfig) -> bool:
    """Whether training computes in bfloat16.

    Raises:
        ConfigError: bfloat16 was asked for and the hardware does not have it.
    """
    if settings.precision == "bfloat16" and not trains_in_bfloat16():
        raise ConfigError(
            "precision bfloat16 was asked for, but this hardware has no native bfloat16; use auto or float32"
        )
    return settings.precision != "float32" and trains_in_bfloat16()


def micro_batch(settings: TrainingConfig) -> int:
    """Rows of one forward pass of one process."""
    share = math.ceil(settings.batch_size / world_size())
    return min(settings.micro_batch_size or share, share)


def total_steps(settings: TrainingConfig, steps_per_epoch: int) -> int:
    """Optimiser steps of the whole run."""
    return settings.max_steps or math.ceil(settings.epochs * steps_per_epoch)


def training_arguments(
    settings: TrainingConfig,
    folder: Path,
    *,
    steps: int,
    accumulation: int,
    trunk_frozen: bool,
    bfloat16: bool,
    seed: int,
    extra: Mapping[str, Any] | None = None,
) -> TrainingArguments:
    """The Trainer's arguments. What it would do by itself and we do (when to save and score, bars) is off.

    Args:
        extra: arguments of a strategy for several processes (``fsdp``, ``deepspeed``, ``ddp_timeout``).
    """
    from transformers import TrainingArguments

    gpu = has_gpu()
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=micro_batch(settings),
        gradient_accumulation_steps=accumulation,
        learning_rate=settings.learning_rate or (LEARNING_RATE_FROZEN if trunk_frozen else LEARNING_RATE),
        weight_decay=settings.weight_decay,
        optim=OPTIMIZERS[settings.optimizer],
        warmup_steps=round(settings.warmup_ratio * steps),
        lr_scheduler_type=SCHEDULES.get(settings.schedule, settings.schedule),
        lr_scheduler_kwargs=SCHEDULE_OPTIONS.get(settings.schedule, {}),
        max_grad_norm=settings.max_grad_norm,
        bf16=bfloat16,
        use_cpu=not gpu,
        ddp_backend="gloo" if not gpu and world_size() > 1 else None,
        logging_nan_inf_filter=False,  # it would replace a nan by an average, and wait for the GPU in each step
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        seed=seed,
        **(extra or {}),
    )
    if world_size() == 1 and arguments.n_gpu > 1:
        arguments._n_gpu = 1  # else transformers spreads each batch over all GPUs in threads, which is slow
    return arguments


def training_device() -> str:
    """The kind of device that the Trainer takes: ``"cuda"`` (ROCm's GPUs too), ``"mps"`` or ``"cpu"``."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_gpu() -> bool:
    """Whether PyTorch has a GPU here."""
    return training_device() != "cpu"

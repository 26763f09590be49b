"""How a model is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deepseek.training.distributed.config import DistributedConfig
from deepseek.training.planning.config import PlanConfig
from deepseek.training.runs.config import TrackingConfig


class TrainingConfig(BaseModel):
    """Optimisation settings; they become transformers' ``TrainingArguments``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Literal["auto", "all", "head"] = Field(
        "auto",
        description="auto: the adapter and fresh heads if there is one, else all weights; head: a frozen trunk, only "
        "what the checkpoint did not bring.",
    )
    epochs: float = Field(2.0, gt=0, le=1000, description="Passes over the training rows.")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many optimiser steps, whatever the epochs.")
    batch_size: int = Field(32, ge=1, le=65536, description="Rows per optimiser step, on all devices together.")
    micro_batch_size: int | None = Field(
        None, ge=1, description="Rows per forward pass; fewer than batch_size accumulates gradients. null: batch_size."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Peak learning rate. null: 1e-3 for an adapter or a head, 5e-5 for all weights."
    )
    optimizer: Literal["adamw", "adafactor", "sgd"] = Field("adamw")
    weight_decay: float = Field(0.01, ge=0, le=1)
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    schedule: Literal["linear", "cosine", "constant", "polynomial", "inverse_sqrt"] = Field(
        "linear", description="Learning rate after the warm-up."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of each target spread over all classes.")
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None, description="Weight of each class in the loss: 'balanced' (inverse frequency), or a number a label."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the hardware multiplies it natively, float32 elsewhere."
    )
    trunk_dropout: float | None = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout inside the pre-trained model while an adapter or a head trains; null keeps the "
        "checkpoint's. Dropout in a frozen trunk costs time and memory and seldom helps.",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Compute activations again in the backward pass instead of keeping them: less memory, more time.",
    )
    group_by_length: bool = Field(True, description="Batches of rows of like length, so that little is padding.")
    cache_frozen: bool = Field(
        False, description="Compute the states of frozen lower layers once and keep them on disk; needs an adapter in "
        "upper layers only (adapter.layers) or train: head.",
    )  # fmt: skip
    evaluate: Literal["never", "epoch"] | int = Field(
        "epoch", description="When validation rows are scored, if there are any: each epoch, or every so many steps."
    )
    metric: str | None = Field(None, description="What 'best' means; null: the task's main metric.")
    early_stopping: int | None = Field(None, ge=1, description="Stop after so many scorings without a better one.")
    keep_best: bool = Field(True, description="End with the best scored weights.")
    checkpoint: bool | int = Field(
        True, description="Save so that an interrupted run can be resumed: each epoch, or every so many steps."
    )
    keep_checkpoints: int = Field(1, ge=1, description="Newest checkpoints that are kept (the best one stays too).")
    log_every: int = Field(10, ge=1, description="Steps that one point of the loss curve averages.")
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    plan: PlanConfig | None = Field(
        None, description="Let the planner choose precision, batch, checkpointing, adapter depth and caching."
    )
    distributed: DistributedConfig | None = Field(None, description="Several processes, devices or nodes.")

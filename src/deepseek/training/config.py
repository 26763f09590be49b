"""How a model is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """Optimisation settings; they become transformers' ``TrainingArguments``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(2.0, gt=0, le=1000, description="Passes over the training rows.")
    batch_size: int = Field(32, ge=1, le=65536, description="Rows per step.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Peak learning rate (AdamW).")
    weight_decay: float = Field(0.01, ge=0, le=1)
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Learning rate after the warm-up.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the hardware multiplies it natively, float32 elsewhere."
    )
    trunk_dropout: float | None = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout inside the pre-trained model while an adapter trains; null keeps the checkpoint's. "
        "Dropout in a frozen trunk costs time and memory and seldom helps.",
    )
    checkpoint: bool = Field(True, description="Save after each epoch, so that an interrupted run can be resumed.")


def native_bfloat16() -> bool:
    """Whether this hardware multiplies bfloat16 natively (CUDA or ROCm GPU, AVX512-BF16 or AMX on a CPU)."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

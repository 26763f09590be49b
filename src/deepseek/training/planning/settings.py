"""One way to train: what the planner chooses among."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """The settings that change memory and time, but not (or little) what is learned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: autocast, frozen weights kept "
        "in bfloat16.")  # fmt: skip
    gradient_checkpointing: bool = Field(False)
    batch_size: int = Field(32, ge=1, description="Rows an optimiser step.")
    micro_batch_size: int = Field(32, ge=1, description="Rows a forward pass.")
    group_by_length: bool = Field(True)
    trunk_dropout: float | None = Field(None, description="null: the checkpoint's own.")
    adapted_layers: int | None = Field(None, ge=0, description="Upper layers with an adapter; null: as the recipe says.")
    cache_frozen: bool = Field(False, description="Lower layers' states are computed once and read from the disk.")

    @property
    def accumulation(self) -> int:
        """Forward passes an optimiser step."""
        return -(-self.batch_size // self.micro_batch_size)

    def __str__(self) -> str:
        parts = ["bf16" if self.precision == "bfloat16" else "fp32"]
        parts.append(f"batch {self.batch_size}")
        if self.accumulation > 1:
            parts[-1] += f" = {self.accumulation} x {self.micro_batch_size}"
        if self.gradient_checkpointing:
            parts.append("checkpointing")
        if self.trunk_dropout is not None:
            parts.append(f"trunk dropout {self.trunk_dropout:g}")
        if self.adapted_layers is not None:
            parts.append(f"upper {self.adapted_layers} layers")
        if self.cache_frozen:
            parts.append("cached lower layers")
        if not self.group_by_length:
            parts.append("random order")
        return ", ".join(parts)

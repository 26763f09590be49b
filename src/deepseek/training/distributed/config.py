"""How a run is spread over processes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class DistributedConfig(BaseModel):
    """Processes and how they share the work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(2, ge=1, description="Processes in all (usually one a device).")
    launcher: Literal["local", "ray"] = Field("local", description="local: processes of this machine; ray: a cluster.")
    address: str | None = Field(None, description="Ray cluster; null: the one that is running, or a local one.")
    strategy: Literal["ddp", "fsdp", "deepspeed"] = Field("ddp")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Passed on: accelerate's FSDP options, or DeepSpeed's JSON configuration."
    )

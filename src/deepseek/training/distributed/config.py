"""How a run is spread over processes."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class DistributedConfig(BaseModel):
    """Processes and how they share the work.

    ``batch_size`` stays the rows of one optimiser step over all workers, so the number of workers changes the speed
    of a run and not its result. Several nodes: start the same script on each with ``torchrun`` or
    ``accelerate launch`` (then ``workers`` and ``launcher`` are not needed), or use ``launcher: ray``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(2, ge=1, le=65536, description="Processes in all (usually one a device).")
    launcher: Literal["local", "ray"] = Field("local", description="local: processes of this machine; ray: a cluster.")
    address: str | None = Field(
        None, description="Ray cluster; null: the one that is connected or that RAY_ADDRESS names, or a local one."
    )
    strategy: Literal["ddp", "fsdp", "deepspeed"] = Field(
        "ddp", description="ddp: a whole model in each process; fsdp, deepspeed: weights or states shared out."
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="fsdp: transformers' fsdp_config; deepspeed: DeepSpeed's JSON configuration (null values and "
        "'auto' are filled in from the training settings).",
    )
    timeout: float = Field(
        1800, gt=0, le=86400, description="Seconds that a worker waits for another before the run fails."
    )
    restarts: int = Field(
        0, ge=0, le=100, description="How often workers are started again from the last checkpoint after one died."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.options and self.strategy == "ddp":
            raise ValueError("options are for the strategies fsdp and deepspeed; leave them out with ddp")
        if self.address is not None and self.launcher != "ray":
            raise ValueError("address is for launcher: ray")
        return self

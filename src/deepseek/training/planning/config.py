"""What the planner may spend and what it may change."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PlanConfig(BaseModel):
    """Budgets; the planner finds the settings that fit them, the most accurate first, then the fastest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory: str | None = Field(None, description="Peak memory of the process, such as '2GB'; null: what is free.")
    time: str | None = Field(None, description="Wall time of the training, such as '10m'; null: no limit.")
    allow_shallow: bool = Field(
        True, description="Adapters in the upper layers only, if the budgets leave no other way."
    )
    allow_cache: bool = Field(True, description="Keep the states of frozen lower layers on the disk.")
    calibrate: bool = Field(
        True, description="Time a few real steps; without that, plans are ordered by rule and have no time."
    )

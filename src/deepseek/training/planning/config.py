"""What the planner may spend."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PlanConfig(BaseModel):
    """Budgets; the planner finds the settings that fit them, the most accurate first, then the fastest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory: str | None = Field(None, description="Peak memory of the process, such as '2GB'; null: what is free.")
    time: str | None = Field(None, description="Wall time of the training, such as '10m'; null: no limit.")

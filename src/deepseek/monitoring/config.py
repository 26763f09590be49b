"""What of a server is watched, and how. Each part's settings are beside the class that they build."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from deepseek.monitoring.logs.setup import LogConfig
from deepseek.monitoring.quality.monitor import QualityConfig
from deepseek.monitoring.resources.monitor import ResourceConfig
from deepseek.monitoring.stability.objectives import DEFAULT_OBJECTIVES, Objective
from deepseek.monitoring.tracing.tracer import TracingConfig


class MonitoringConfig(BaseModel):
    """Settings of a server's monitoring; raises ``pydantic.ValidationError`` for unknown or impossible values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_series: int = Field(
        default=1000, ge=16, description="Most combinations of protocol, operation, model and version that are counted."
    )
    step_seconds: float = Field(default=5.0, gt=0, description="Distance of the points of the console's charts.")
    history_minutes: float = Field(default=15.0, gt=0, le=24 * 60, description="How far back the charts go.")
    objectives: tuple[Objective, ...] = Field(default=DEFAULT_OBJECTIVES, description="Service level objectives.")
    quality: QualityConfig | None = Field(default=QualityConfig(), description="Model quality; null watches none.")
    resources: ResourceConfig = Field(default=ResourceConfig(), description="Machine and GPUs.")
    logs: LogConfig = Field(default=LogConfig(), description="Log lines.")
    tracing: TracingConfig | None = Field(default=None, description="OpenTelemetry traces; null makes none.")

    @field_validator("objectives")
    @classmethod
    def _named_apart(cls, objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
        names = [objective.name for objective in objectives]
        if len(set(names)) != len(names):
            raise ValueError(f"expected objectives with different names, received {', '.join(names)}")
        return objectives

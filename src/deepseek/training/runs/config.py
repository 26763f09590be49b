"""Where a run is logged besides its own folder."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TrackingConfig(BaseModel):
    """Experiment trackers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tensorboard: bool = Field(False, description="Write TensorBoard event files into the run folder.")
    mlflow: str | None = Field(
        None, description="URI of an MLflow tracking server or database, e.g. sqlite:///mlflow.db."
    )
    experiment: str = Field("deepseek", description="MLflow experiment.")

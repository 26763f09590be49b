"""Which feature store a server reads from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class FeatureServingConfig(BaseModel):
    """Settings of feature reads; raises ``pydantic.ValidationError`` for unknown or impossible values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | Path = Field(description="Folder or object-store prefix of the feature store.")
    online: str | Path | None = Field(
        default=None,
        description="Its online store, as a folder or an address (redis://host:6379/0); "
        "by default the folder online inside path.",
    )
    views: tuple[str, ...] | None = Field(
        default=None, description="The feature views that are served; all that are registered by default."
    )
    max_entities: int = Field(default=1000, ge=1, description="Most entities in one read.")
    max_waiting: int = Field(
        default=256, ge=1, description="Most reads that wait for a thread; beyond it they are refused (429)."
    )

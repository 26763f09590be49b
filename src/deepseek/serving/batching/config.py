"""How rows are gathered into batches, and how many may wait."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class BatchLimits(BaseModel):
    """What goes into one batch, and what may wait; raises ``pydantic.ValidationError`` for impossible values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: int = Field(
        default=32, ge=1, description="Most rows that a model sees at once. Larger requests are split and re-joined."
    )
    max_batch_cost: int | None = Field(
        default=None,
        ge=1,
        description="Most that the rows of a batch may cost together, in the unit of the model's cost(row), e.g. "
        "tokens or bytes. Without a cost function it does nothing.",
    )
    max_batch_delay_ms: float = Field(
        default=2.0,
        ge=0,
        description="Longest time, in milliseconds, that a row waits for company while the model is idle. "
        "A lone client never waits.",
    )
    max_queue: int = Field(
        default=1024,
        ge=1,
        description="Most rows that wait for one model. Beyond it requests are refused at once "
        "(429 with Retry-After, RESOURCE_EXHAUSTED).",
    )
    max_queue_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024,
        description="Most bytes that the waiting rows of one model may hold. Beyond it requests are refused at once.",
    )


class BatchingConfig(BatchLimits):
    """Settings of one model's batcher."""

    ageing_seconds: float = Field(
        default=1.0,
        gt=0,
        description="What one step of priority is worth, in seconds of waiting: a row is overtaken only by rows of "
        "higher priority that came at most this much later for each step between them.",
    )
    timeout_seconds: float | None = Field(
        default=300.0,
        gt=0,
        description="Longest time, in seconds, that a model may work on one batch. Then its requests fail, and the "
        "model is not ready until it returns; a worker process is ended and started again. null: no limit.",
    )

"""How many processes run a model, when they are replaced, and what they load."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class WorkersConfig(BaseModel):
    """Settings of a model's worker processes; raises ``pydantic.ValidationError`` for unknown or impossible values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Processes that run each model. 0: none, models run in threads of the server.",
    )
    threads_per_worker: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads of each worker (OMP_NUM_THREADS and its like, which torch and our runtimes go by). "
        "null: what the environment says, or else the usable cores divided by the workers.",
    )
    load_timeout_seconds: float = Field(
        default=600.0, gt=0, description="Longest time, in seconds, that a worker gets to load and warm up its model."
    )
    beat_seconds: float = Field(
        default=1.0, gt=0, description="Every how many seconds a worker says that it is alive, and what it uses."
    )
    beat_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="A worker that has said nothing for this many seconds is ended and replaced. Native code that "
        "keeps Python's lock keeps it from saying so.",
    )
    max_worker_memory: int | None = Field(
        default=None,
        ge=1,
        description="Resident memory, in bytes, beyond which a worker is replaced. The next one is ready before it "
        "ends, so that there is one model more for a while.",
    )
    max_worker_requests: int | None = Field(
        default=None, ge=1, description="Requests after which a worker is replaced, in the same way."
    )
    max_retries: int = Field(
        default=1,
        ge=0,
        le=10,
        description="How often a batch whose worker died is tried again. If workers still die, its requests are tried "
        "one by one, once, and those whose worker dies again fail.",
    )
    restart_delay_seconds: float = Field(
        default=0.25, gt=0, description="Wait before a dead worker is started again; doubled for each death in a row."
    )
    max_restart_delay_seconds: float = Field(default=30.0, gt=0, description="Longest such wait, in seconds.")
    max_failures: int = Field(
        default=10,
        ge=1,
        description="Deaths in a row, without a batch answered or without a model loaded, after which no worker is "
        "started any more. A model without workers is not ready.",
    )
    stop_seconds: float = Field(
        default=5.0, ge=0, description="Time, in seconds, that workers get to end by themselves before they are killed."
    )

    @property
    def threads(self) -> int | None:
        """CPU threads of each worker; ``None``: the environment says."""
        if self.threads_per_worker is not None:
            return self.threads_per_worker
        if "OMP_NUM_THREADS" in os.environ:
            return None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // max(1, self.workers))


class LoaderSpec(BaseModel):
    """What a worker calls to get its model: a function by name, and plain arguments.

    Example:
        >>> LoaderSpec(
        ...     function="deepseek.inference.predictor:Predictor.load", arguments={"model": "runs/sentiment"}
        ... )
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", description='"package.module:function", or a class or its method.'
    )
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="Keyword arguments, as JSON has them.")

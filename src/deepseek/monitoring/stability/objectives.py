"""Service level objectives: which share of requests shall be answered, and how fast.

*Availability* counts a request as bad when its client got a 5xx, which is the server's fault; a 4xx, 429 included, is
not: a client that exceeds its plan must not wake anybody. That a queue is full is alerted on by itself. *Latency*
counts an answered request as bad when it took longer than the threshold, which has to be a bound of the histogram's
buckets, so that the share is exact.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepseek.monitoring.metrics.families import DURATION_BUCKETS
from deepseek.monitoring.metrics.samples import Snapshot, total


class Events(NamedTuple):
    """Requests so far, and those of them that broke the objective."""

    total: int
    bad: int


class Objective(BaseModel):
    """One promise about all requests of a server, or those of some operations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$", description="The label slo of its metrics.")
    kind: Literal["availability", "latency"] = Field(description="What makes a request bad: a 5xx, or its duration.")
    target: float = Field(gt=0, lt=1, description="Promised share of good requests, e.g. 0.999.")
    threshold_seconds: float | None = Field(
        default=None, description="Longest duration of a good request; a bound of the duration's buckets."
    )
    operation: str = Field(default="*", description="Only requests of this operation; infer* are all that begin so.")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if (self.kind == "latency") != (self.threshold_seconds is not None):
            raise ValueError("threshold_seconds: expected for a latency objective, and for that alone")
        if self.threshold_seconds is not None and self.threshold_seconds not in DURATION_BUCKETS:
            bounds = ", ".join(f"{bound:g}" for bound in DURATION_BUCKETS)
            raise ValueError(f"threshold_seconds: expected one of {bounds}, received {self.threshold_seconds:g}")
        return self

    def events(self, snapshot: Snapshot) -> Events:
        """Count the objective's requests in a snapshot."""
        where = {"operation": self.operation}
        if self.threshold_seconds is None:
            every, _ = total(snapshot, "deepseek_requests", where)
            failed, _ = total(snapshot, "deepseek_requests", {**where, "code": "5*"})
            return Events(int(every), int(failed))
        _, counts = total(snapshot, "deepseek_request_duration_seconds", {**where, "code": "200"})
        counts = counts or []
        return Events(sum(counts), sum(counts[DURATION_BUCKETS.index(self.threshold_seconds) + 1 :]))


DEFAULT_OBJECTIVES = (
    Objective(name="availability", kind="availability", target=0.999),
    Objective(name="latency", kind="latency", target=0.99, threshold_seconds=0.25),
)

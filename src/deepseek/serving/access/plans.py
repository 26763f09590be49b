"""Plans: what a key may use, by name.

Three limits, each of them optional. Requests are counted over a sliding minute (:mod:`deepseek.serving.access.window`),
inferences and tokens by UTC day. An inference is one row of a request: a batch of 32 texts is 32 inferences.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field


class Plan(BaseModel):
    """What a key on this plan may use; a limit that is ``None`` does not limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int | None = Field(default=None, ge=1, description="Most requests within any 60 seconds.")
    inferences_per_day: int | None = Field(default=None, ge=1, description="Most inferences (rows) in a UTC day.")
    tokens_per_day: int | None = Field(
        default=None,
        ge=1,
        description="Input and output tokens in a UTC day. They are known only after an answer: the request that "
        "crosses the limit is answered in full, the next one is refused.",
    )

    @property
    def unlimited(self) -> bool:
        """Whether nothing is limited."""
        return self.requests_per_minute is None and self.inferences_per_day is None and self.tokens_per_day is None


BUILT_IN: Mapping[str, Plan] = {
    "free": Plan(requests_per_minute=60, inferences_per_day=10_000, tokens_per_day=200_000),
    "unlimited": Plan(),
}
"""Plans that are always there, unless a configuration defines a plan of the same name."""

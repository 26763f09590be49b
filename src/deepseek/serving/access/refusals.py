"""How a refusal is told: which limit, how much of it is used, and when there is more."""

from __future__ import annotations

from deepseek.serving.access.plans import Plan
from deepseek.serving.errors import QuotaExceededError


class LimitExceededError(QuotaExceededError):
    """A limit of the key's plan is used up.

    ``limit`` is the plan's field (``requests_per_minute``, ``inferences_per_day``, ``tokens_per_day``), ``used`` and
    ``allowed`` are in its unit, ``retry_after`` in seconds.
    """

    def __init__(self, message: str, retry_after: float, *, limit: str, used: int, allowed: int) -> None:
        super().__init__(message, retry_after)
        self.limit, self.used, self.allowed = limit, used, allowed


def too_many_requests(name: str, plan: Plan, used: int, retry_after: float) -> LimitExceededError:
    """More requests within a minute than the plan allows."""
    allowed = plan.requests_per_minute or 0
    return LimitExceededError(
        f"rate limit of plan {name!r}: {used} of {allowed} requests used in the last 60 seconds; "
        f"retry in {retry_after:.1f} s",
        retry_after,
        limit="requests_per_minute",
        used=used,
        allowed=allowed,
    )


def too_many_inferences(name: str, plan: Plan, used: int, rows: int, retry_after: float) -> LimitExceededError:
    """The request's rows do not fit into what is left of the day's inferences."""
    allowed = plan.inferences_per_day or 0
    if rows > allowed:
        advice = f"a request on this plan can never have {rows}; send smaller ones"
    else:
        advice = f"this request has {rows}, there are {allowed} more at 00:00 UTC, in {retry_after:.0f} s"
    return LimitExceededError(
        f"daily quota of plan {name!r}: {used} of {allowed} inferences used today; {advice}",
        retry_after,
        limit="inferences_per_day",
        used=used,
        allowed=allowed,
    )


def too_many_tokens(name: str, plan: Plan, used: int, retry_after: float) -> LimitExceededError:
    """The day's tokens are used up."""
    allowed = plan.tokens_per_day or 0
    return LimitExceededError(
        f"daily quota of plan {name!r}: {used} of {allowed} tokens used today; there are {allowed} more at 00:00 UTC, "
        f"in {retry_after:.0f} s",
        retry_after,
        limit="tokens_per_day",
        used=used,
        allowed=allowed,
    )

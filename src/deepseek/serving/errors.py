"""What can go wrong with a request, and the one place that maps it to HTTP and gRPC statuses."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from typing import NamedTuple

from deepseek.errors import DeepSeekError, UnknownNameError

logger = logging.getLogger("deepseek.serving")


class RequestError(DeepSeekError, ValueError):
    """The request is malformed: a wrong name, datatype, shape or value."""


class BodyTooLargeError(DeepSeekError, ValueError):
    """The request's body exceeds ``max_body_bytes``."""


class BodyTimeoutError(DeepSeekError, TimeoutError):
    """The request's body did not arrive within ``body_timeout_seconds``."""


class UnsupportedMediaError(DeepSeekError, ValueError):
    """The request's body is in a form that this server does not read."""


class QueueFullError(DeepSeekError):
    """Too many rows wait for the model; ``retry_after`` is the estimated time, in seconds, until there is room."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BodiesFullError(QueueFullError):
    """Too many large bodies arrive at the same time."""


class NotReadyError(DeepSeekError):
    """The model is still loading, or the server is shutting down."""


class AuthenticationError(DeepSeekError):
    """The request has no key, or one that is not known, was revoked or has expired."""


class PermissionDeniedError(DeepSeekError):
    """The key is known, but does not cover this model or operation."""


class QuotaExceededError(DeepSeekError):
    """The key has used up what its plan allows; ``retry_after`` is the time, in seconds, until there is more."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(DeepSeekError, TimeoutError):
    """The request could not be answered within the time that its client, or the server, gives it."""


class WorkerCrashError(DeepSeekError):
    """The process that runs the model died each time that it was given this request."""


class Failure(NamedTuple):
    """How an exception is told to a client."""

    http_status: int
    grpc_code: str
    """Name of a ``grpc.StatusCode``."""
    message: str
    retry_after: float | None = None
    """Seconds."""


_STATUSES: tuple[tuple[type[Exception], int, str], ...] = (
    (QueueFullError, 429, "RESOURCE_EXHAUSTED"),
    (QuotaExceededError, 429, "RESOURCE_EXHAUSTED"),
    (NotReadyError, 503, "UNAVAILABLE"),
    (AuthenticationError, 401, "UNAUTHENTICATED"),
    (PermissionDeniedError, 403, "PERMISSION_DENIED"),
    (DeadlineError, 504, "DEADLINE_EXCEEDED"),
    (BodyTimeoutError, 408, "DEADLINE_EXCEEDED"),
    (BodyTooLargeError, 413, "RESOURCE_EXHAUSTED"),
    (UnsupportedMediaError, 415, "INVALID_ARGUMENT"),
    (UnknownNameError, 404, "NOT_FOUND"),
)
"""The first class that an exception is of decides."""
CLIENT_LEFT = 499
"""What nginx logs for a client that did not wait; nobody is told it."""


def _status(error: BaseException) -> tuple[int, str]:
    for kind, http_status, grpc_code in _STATUSES:
        if isinstance(error, kind):
            return http_status, grpc_code
    if isinstance(error, DeepSeekError) and isinstance(error, ValueError):
        return 400, "INVALID_ARGUMENT"
    return 500, "INTERNAL"


def status_of(error: BaseException) -> int:
    """The HTTP status of an exception, for counting; logs nothing."""
    return CLIENT_LEFT if isinstance(error, asyncio.CancelledError) else _status(error)[0]


def refusal(error: BaseException) -> str:
    """What a request that got 429 had exhausted, for counting; the alert rules know these names."""
    if isinstance(error, BodiesFullError):
        return "bodies_full"
    return "queue_full" if isinstance(error, QueueFullError) else "quota_exceeded"


def describe(error: BaseException) -> Failure:
    """Map an exception to statuses; an unexpected one is logged with its traceback and told without its details."""
    http_status, grpc_code = _status(error)
    if http_status != 500:
        retry_after = 1.0 if isinstance(error, NotReadyError) else getattr(error, "retry_after", None)
        return Failure(http_status, grpc_code, str(error), retry_after)
    if isinstance(error, WorkerCrashError):
        return Failure(500, "INTERNAL", str(error))
    incident = uuid.uuid4().hex[:12]
    logger.error("request failed, incident %s", incident, exc_info=error)
    return Failure(500, "INTERNAL", f"internal error; the server's log has the details under incident {incident}")


def whole_seconds(seconds: float) -> str:
    """``Retry-After`` takes whole seconds (RFC 9110, 10.2.3); at least one, so that clients do not spin."""
    return str(max(1, math.ceil(seconds)))

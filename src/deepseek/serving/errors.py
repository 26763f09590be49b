"""What can go wrong with a request, and the one place that maps it to HTTP and gRPC statuses."""

from __future__ import annotations

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


class UnsupportedMediaError(DeepSeekError, ValueError):
    """The request's body is in a form that this server does not read."""


class QueueFullError(DeepSeekError):
    """Too many rows wait for the model; ``retry_after`` is the estimated time, in seconds, until there is room."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


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


class Failure(NamedTuple):
    """How an exception is told to a client."""

    http_status: int
    grpc_code: str
    """Name of a ``grpc.StatusCode``."""
    message: str
    retry_after: float | None = None
    """Seconds."""


def describe(error: BaseException) -> Failure:
    """Map an exception to statuses; an unexpected one is logged with its traceback and told without its details."""
    if isinstance(error, QueueFullError | QuotaExceededError):
        return Failure(429, "RESOURCE_EXHAUSTED", str(error), error.retry_after)
    if isinstance(error, NotReadyError):
        return Failure(503, "UNAVAILABLE", str(error), 1.0)
    if isinstance(error, AuthenticationError):
        return Failure(401, "UNAUTHENTICATED", str(error))
    if isinstance(error, PermissionDeniedError):
        return Failure(403, "PERMISSION_DENIED", str(error))
    if isinstance(error, DeadlineError):
        return Failure(504, "DEADLINE_EXCEEDED", str(error))
    if isinstance(error, BodyTooLargeError):
        return Failure(413, "RESOURCE_EXHAUSTED", str(error))
    if isinstance(error, UnsupportedMediaError):
        return Failure(415, "INVALID_ARGUMENT", str(error))
    if isinstance(error, UnknownNameError):
        return Failure(404, "NOT_FOUND", str(error))
    if isinstance(error, DeepSeekError) and isinstance(error, ValueError):
        return Failure(400, "INVALID_ARGUMENT", str(error))
    incident = uuid.uuid4().hex[:12]
    logger.error("request failed, incident %s", incident, exc_info=error)
    return Failure(500, "INTERNAL", f"internal error; the server's log has the details under incident {incident}")


def whole_seconds(seconds: float) -> str:
    """``Retry-After`` takes whole seconds (RFC 9110, 10.2.3); at least one, so that clients do not spin."""
    return str(max(1, math.ceil(seconds)))

"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import msgspec

from deepseek.errors import UnknownNameError
from deepseek.serving.errors import Failure, QueueFullError, QuotaExceededError, RequestError, describe
from deepseek.serving.generation.host import PromptTooLongError
from deepseek.serving.rest.http import JSON_HEADERS, Response, failure_headers


class ParameterError(RequestError):
    """A parameter that is not known, has a wrong value, or asks for what this server or model cannot do.

    Attributes:
        param: its name, with the path of a nested one (``"messages[0].content"``); ``None``: the body as a whole.
        code: OpenAI's, for programs.
    """

    def __init__(self, message: str, param: str | None, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code


class ErrorObject(msgspec.Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct):
    """The body of every failure."""

    error: ErrorObject


_CODES = {401: "invalid_api_key", 403: "permission_denied", 503: "not_ready", 504: "timeout"}


def error_body(error: BaseException) -> tuple[Failure, ErrorBody]:
    """An exception's status, and what its client is told."""
    failure = describe(error)
    status = failure.http_status
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    param, code = None, _CODES.get(status)
    if isinstance(error, ParameterError):
        param, code = error.param, error.code
    elif isinstance(error, UnknownNameError) and status == 404:
        param, code = "model", "model_not_found"
    elif isinstance(error, PromptTooLongError):
        code = "context_length_exceeded"
    elif isinstance(error, QuotaExceededError | QueueFullError):
        code = "rate_limit_exceeded" if isinstance(error, QuotaExceededError) else "queue_full"
    return failure, ErrorBody(ErrorObject(failure.message, kind, param, code))


def error_response(error: BaseException) -> Response:
    """A failure as a response, with the headers that say what helps."""
    failure, body = error_body(error)
    headers = [*JSON_HEADERS, *failure_headers(failure)]
    return Response(failure.http_status, headers, msgspec.json.encode(body))

"""A gRPC service as a table of plain async functions, so that any front can serve it.

A unary handler takes the decoded request and the call's metadata and returns the response; a streaming one takes an
asynchronous iterator of requests and gives one of responses. Errors are raised, as everywhere in this package, and the
front turns them into statuses (:func:`deepseek.serving.errors.describe`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from deepseek.serving.errors import Failure, RequestError, whole_seconds

Unary = Callable[[Any, "Metadata"], Awaitable[Message]]
Streaming = Callable[[AsyncIterator[Any], "Metadata"], AsyncIterator[Message]]
Pairs = Iterable[tuple[str, str | bytes]]


class Metadata:
    """A call's metadata, read as a request's headers are; of a name that is sent twice the first counts."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of a name, which is in lower case; binary values (names that end in ``-bin``) are not read."""
        for key, value in self._pairs:
            if key == name and isinstance(value, str):
                return value
        return default


class Rpc(NamedTuple):
    """One method: its name, its messages, and what answers; exactly one of ``unary`` and ``streaming`` is given."""

    name: str
    request: type[Message]
    response: type[Message]
    unary: Unary | None = None
    streaming: Streaming | None = None
    """Both directions are streams."""

    def parse(self, payload: bytes) -> Message:
        """Decode a request; raises :class:`~deepseek.serving.errors.RequestError`."""
        try:
            return self.request.FromString(payload)
        except DecodeError as error:
            raise RequestError(f"the message is not a {self.request.DESCRIPTOR.full_name}: {error}") from error


class Service(NamedTuple):
    """A service's full name, e.g. ``"inference.GRPCInferenceService"``, and its methods."""

    name: str
    rpcs: tuple[Rpc, ...]


def retry_metadata(failure: Failure, *, pushback: bool) -> tuple[tuple[str, str], ...]:
    """Trailing metadata that says when to retry: ``retry-after`` in seconds, as over HTTP.

    With ``pushback`` also ``grpc-retry-pushback-ms``, which clients with a retry policy obey (gRFC A6); the front in
    Rust refuses names that begin with ``grpc-``.
    """
    if failure.retry_after is None:
        return ()
    hint = (("retry-after", whole_seconds(failure.retry_after)),)
    return (*hint, ("grpc-retry-pushback-ms", str(max(1, round(failure.retry_after * 1000))))) if pushback else hint

"""What can be served: anything that fits :class:`ServedModel`.

Rows are plain mappings from field names to values. A scalar field holds a Python ``str``, ``bytes``, ``bool``, ``int``
or ``float``; a numeric field with a shape arrives as a ``numpy.ndarray`` of the signature's dtype, a string field with
a shape as nested lists. A model may return Python values, nested lists or arrays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from deepseek.tasks.signature import Signature

Row: TypeAlias = Mapping[str, Any]
Outputs: TypeAlias = list[dict[str, Any]]
Parameters: TypeAlias = Mapping[str, Any]


class ServedModel(Protocol):
    """A loaded model as the server sees it; called from one thread at a time."""

    @property
    def name(self) -> str:
        """The name in URLs, e.g. ``"sentiment"``."""

    @property
    def version(self) -> str:
        """The version in URLs, e.g. ``"1"``."""

    @property
    def task(self) -> str:
        """The task's name, e.g. ``"text-classification"``."""

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of one row's inputs and outputs, and the parameters that a call may set."""

    @property
    def platform(self) -> str:
        """What runs the model, e.g. ``"torch"``."""

    def predict(self, rows: Sequence[Row], parameters: Parameters | None = None) -> Outputs:
        """Return one output row for each input row, in order; blocks.

        Raises a ``ValueError`` derived from :class:`~deepseek.errors.DeepSeekError` for values that it cannot take:
        the client sees its message. Any other exception is our fault: the client sees only that it happened.
        """


class Batcher(Protocol):
    """What takes the rows of requests to one model and gives each request its answers; used on the event loop."""

    @property
    def queued_rows(self) -> int:
        """Rows that wait for the model (the ones that it is working on are not counted)."""

    @property
    def busy(self) -> bool:
        """Whether any row waits or runs."""

    def submit(
        self,
        rows: Sequence[Row],
        parameters: Parameters | None = None,
        *,
        priority: int = ...,
        deadline: float | None = None,
        size_bytes: int = 0,
    ) -> asyncio.Future[Outputs]:
        """Queue the rows of one request; the future gives one output row for each, in order.

        Cancelling the future cancels what has not been answered. Raises
        :class:`~deepseek.serving.errors.QueueFullError`, :class:`~deepseek.serving.errors.RequestError`,
        :class:`~deepseek.serving.errors.NotReadyError`.
        """

    async def drain(self) -> None:
        """Refuse new requests and wait until every row is answered."""

    def close(self) -> None:
        """Refuse new requests and fail those that are not answered."""


@runtime_checkable
class BatchingModel(Protocol):
    """A served model that batches by itself, because it knows better when: continuous batching, say."""

    def batcher(self, *, max_queue: int) -> Batcher:
        """What takes its rows instead of a micro-batcher; at most ``max_queue`` rows may wait."""

"""The rows of one generating model: nothing is gathered, the engine's steps take up what comes (continuous batching).

A request's answers are cancelled when its client leaves, and all of them when the model is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from deepseek.serving.errors import DeadlineError, NotReadyError, RequestError
from deepseek.serving.generation.answers import Answers
from deepseek.serving.generation.host import Ask, Begun
from deepseek.serving.models.served_model import Outputs, Parameters, Row

if TYPE_CHECKING:
    from deepseek.serving.generation.generator import ServedGenerator


class _Place:
    """Rows that were let in, until they leave."""

    __slots__ = ("_began", "_left", "_rows")

    def __init__(self, rows: int, left: Callable[[int, float | None], None]) -> None:
        self._rows, self._left, self._began = rows, left, time.monotonic()

    def leave(self, *, answered: bool = False) -> None:
        """Count them out, once."""
        rows, self._rows = self._rows, 0
        if rows:
            self._left(rows, time.monotonic() - self._began if answered else None)


class GenerationBatcher:
    """Takes requests to one generating model; use it from one event loop.

    Attributes:
        generator: the model.
        max_queue: rows that may wait for the engine, of all models on it.
    """

    def __init__(self, generator: ServedGenerator, *, max_queue: int) -> None:
        self.generator, self.max_queue = generator, max_queue
        self._host = generator.host
        self._rows = 0
        self._active: set[Answers] = set()
        self._closed = self._aborted = False
        self._idle: asyncio.Event | None = None

    @property
    def queued_rows(self) -> int:
        """Rows that wait for the engine, as far as they are this model's."""
        return min(self._rows, self._host.queued_rows)

    @property
    def busy(self) -> bool:
        """Whether any row waits or runs."""
        return self._rows > 0

    async def start(self, asks: Sequence[Ask]) -> Answers:
        """Start answers and return them as they come, in the order of the prompts; close them (``with``).

        Raises:
            NotReadyError: the model is shutting down.
            QueueFullError: too many rows wait; RequestError: there are none, or more than can ever fit.
            DataError, ConfigError: what is wrong with a prompt or its sampling; then nothing was started.
        """
        return await self._begin(asks, self._admit(asks))

    def submit(
        self,
        rows: Sequence[Row],
        parameters: Parameters | None = None,
        *,
        priority: int = 0,
        deadline: float | None = None,
        size_bytes: int = 0,
    ) -> asyncio.Future[Outputs]:
        """Answer rows of the task's signature, all at once. Raises as :meth:`start`, some of it from the future.

        ``deadline`` is on the event loop's clock; answers that are not complete then are cancelled, and
        ``DeadlineError`` is raised. The engine takes rows up as they come, whatever their priority and size.
        """
        asks = self.generator.asks(rows, parameters or {})
        place = self._admit(asks)
        answer = asyncio.get_running_loop().create_task(self._within(deadline, asks, parameters or {}, place))
        answer.add_done_callback(lambda _: place.leave())  # a task that is cancelled before it starts runs nothing
        return answer

    async def _within(
        self, deadline: float | None, asks: Sequence[Ask], parameters: Parameters, place: _Place
    ) -> Outputs:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._answer(asks, parameters, place)
        except TimeoutError as error:
            raise DeadlineError(
                f"model {self.generator.name!r} was not done when the client's time was over"
            ) from error

    async def _answer(self, asks: Sequence[Ask], parameters: Parameters, place: _Place) -> Outputs:
        with await self._begin(asks, place) as answers:
            completions = await answers.completions()
            return self.generator.outputs(answers.prompts, completions, parameters)

    def _admit(self, asks: Sequence[Ask]) -> _Place:
        if self._closed:
            raise NotReadyError(f"model {self.generator.name!r} is shutting down; retry against another replica")
        rows = sum(ask.choices for ask in asks)
        if rows == 0:
            raise RequestError("expected at least one row, received none")
        self._host.admit(self.generator.name, rows, self.max_queue)
        self._rows += rows
        return _Place(rows, self._left)

    async def _begin(self, asks: Sequence[Ask], place: _Place) -> Answers:
        try:
            reading = self._host.read(asks, self.generator.adapter)
            try:
                begun = await asyncio.wrap_future(reading)
            except asyncio.CancelledError:
                reading.add_done_callback(_abandon)
                raise
        except BaseException:
            place.leave()
            raise

        def closed(answers: Answers) -> None:
            self._active.discard(answers)
            place.leave(answered=True)

        answers = Answers(begun.prompts, begun.streams, closed)
        self._active.add(answers)
        if self._aborted:
            answers.abort()
        return answers

    def _left(self, rows: int, seconds: float | None) -> None:
        self._rows -= rows
        self._host.release(rows, seconds)
        if self._rows == 0 and self._idle is not None:
            self._idle.set()

    async def drain(self) -> None:
        """Refuse new requests and wait until every answer is complete; the engine stays for other models on it."""
        self._closed = True
        if self._rows:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

    def close(self) -> None:
        """Refuse new requests and cancel the answers that are not complete: they fail with ``NotReadyError``."""
        self._closed = self._aborted = True
        for answers in self._active:
            answers.abort()


def _abandon(reading: Future[Begun]) -> None:
    """The client left while its prompt was read."""
    if not reading.cancelled() and reading.exception() is None:
        reading.result().cancel()

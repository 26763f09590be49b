"""One request's answer as it comes, for threads and for event loops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from deepseek.inference.generation.core import TokenLogprobs


@dataclass(frozen=True)
class Piece:
    """What came in one step.

    Attributes:
        text: new text; may be empty while a character or a possible stop text is unfinished.
        token_ids, logprobs: new tokens, and their log-probabilities when asked for.
        finish_reason: on the last piece ``"stop"``, ``"length"`` or ``"cancelled"``; else ``None``.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: str | None = None


@dataclass(frozen=True)
class Completion:
    """A whole answer. ``token_ids`` may go on after ``text``, which ends before a stop text."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    logprobs: tuple[TokenLogprobs, ...] = ()


class Stream:
    """The pieces of one answer: iterate, ``async for``, or wait for :meth:`result`. Each piece is given out once.

    Attributes:
        prompt_tokens: tokens of the prompt.
    """

    def __init__(self, prompt_tokens: int, cancel: Callable[[], None]) -> None:
        self.prompt_tokens = prompt_tokens
        self._cancel = cancel
        self._changed = threading.Condition()
        self._pieces: list[Piece] = []
        self._taken = 0
        self._error: BaseException | None = None
        self._listeners: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Stop generating; the last piece says ``"cancelled"``, unless the answer was complete before."""
        self._cancel()

    @property
    def finished(self) -> bool:
        """Whether nothing more comes."""
        with self._changed:
            return self._over

    @property
    def _over(self) -> bool:
        return self._error is not None or bool(self._pieces and self._pieces[-1].finish_reason)

    def put(self, piece: Piece) -> None:
        """The engine's: the next piece."""
        with self._changed:
            self._pieces.append(piece)
            self._wake()

    def fail(self, error: BaseException) -> None:
        """The engine's: no more pieces, because of ``error``."""
        with self._changed:
            self._error = error
            self._wake()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` in the engine's thread whenever something is new to :meth:`take`; it must not block."""
        with self._changed:
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Take back :meth:`listen`."""
        with self._changed:
            self._listeners.remove(listener)

    def take(self) -> list[Piece]:
        """Pieces that have come since the last were given out, without waiting; raises what went wrong after them."""
        with self._changed:
            if self._taken == len(self._pieces) and self._error is not None:
                raise self._error
            fresh, self._taken = self._pieces[self._taken :], len(self._pieces)
        return fresh

    def _wake(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener()

    def _take(self) -> Piece | None:
        """The next piece if there is one; raises what went wrong."""
        if self._taken < len(self._pieces):
            self._taken += 1
            return self._pieces[self._taken - 1]
        if self._error is not None:
            raise self._error
        return None

    def __iter__(self) -> Iterator[Piece]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._taken < len(self._pieces) or self._over)
                piece = self._take()
            if piece is None:
                return
            yield piece

    async def __aiter__(self) -> AsyncIterator[Piece]:
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def listener() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody iterates any more
                loop.call_soon_threadsafe(news.set)

        self.listen(listener)
        try:
            while True:
                with self._changed:
                    piece, over = self._take(), self._over
                    if piece is None:
                        news.clear()
                if piece is not None:
                    yield piece
                elif over:
                    return
                else:
                    await news.wait()
        finally:
            self.unlisten(listener)

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the whole answer, whatever of it was iterated before.

        Raises:
            TimeoutError: it is not complete after ``timeout`` seconds; it goes on.
            EngineError, ConfigError: it could not be completed.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._over, timeout):
                raise TimeoutError(f"the answer is not complete after {timeout:g} s")
            if self._error is not None:
                raise self._error
            pieces = list(self._pieces)
        return Completion(
            text="".join(piece.text for piece in pieces),
            token_ids=tuple(token for piece in pieces for token in piece.token_ids),
            finish_reason=str(pieces[-1].finish_reason),
            prompt_tokens=self.prompt_tokens,
            logprobs=tuple(each for piece in pieces for each in piece.logprobs),
        )

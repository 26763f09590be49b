"""The answers to one request as they come, on the event loop.

A request may have several (``n`` choices of several prompts): they share one wake-up, so that a request costs the loop
one task switch a step of the engine, however many answers it has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from deepseek.inference.generation.stream import Completion, Piece, Stream
from deepseek.serving.errors import NotReadyError


class Answers:
    """Streams of one request; leaving the block cancels those that are not complete.

    Args:
        prompts: token ids of each prompt.
        streams: of the answers, in their order.
        closed: called once, when the block is left.

    Attributes:
        prompts: as given.
        generated: tokens that :meth:`news` has given out.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], streams: Sequence[Stream], closed: Callable[[Answers], None]
    ) -> None:
        self.prompts = prompts
        self.generated = 0
        self._open = dict(enumerate(streams))
        self._count = len(streams)
        self._closed = closed
        self._leaving = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._woken = False
        for stream in streams:
            stream.listen(self._wake)

    def __len__(self) -> int:
        return self._count

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts; one that has several answers counts once."""
        return sum(map(len, self.prompts))

    def _wake(self) -> None:
        """In the engine's thread. A piece is there before this looks at the flag, and :meth:`news` lowers the flag
        before it takes pieces, so none is missed."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._news.set)

    async def news(self) -> list[tuple[int, Piece]]:
        """Wait for pieces; each with the number of its answer. None: all answers are complete.

        Raises:
            NotReadyError: the model was shut down meanwhile.
            DeepSeekError: what went wrong with an answer.
        """
        while True:
            self._woken = False
            self._news.clear()
            found: list[tuple[int, Piece]] = []
            for index, stream in list(self._open.items()):
                for piece in stream.take():
                    found.append((index, piece))
                    self.generated += len(piece.token_ids)
                    if piece.finish_reason is None:
                        continue
                    del self._open[index]
                    stream.unlisten(self._wake)
                    if piece.finish_reason == "cancelled":
                        raise NotReadyError("the model was shut down before the answer was complete; retry")
            if found or not self._open:
                return found
            await self._news.wait()

    async def completions(self, arrived: Callable[[], None] = lambda: None) -> list[Completion]:
        """Wait for all answers; ``arrived`` is called at each news. Raises as :meth:`news`."""
        pieces: list[list[Piece]] = [[] for _ in range(self._count)]
        while news := await self.news():
            arrived()
            for index, piece in news:
                pieces[index].append(piece)
        each = self._count // max(len(self.prompts), 1)
        return [_joined(own, len(self.prompts[index // each])) for index, own in enumerate(pieces)]

    def close(self) -> None:
        """Cancel what is not complete."""
        if self._leaving:
            return
        self._leaving = True
        for stream in self._open.values():
            stream.unlisten(self._wake)
            stream.cancel()
        self._closed(self)

    def abort(self) -> None:
        """Cancel what is not complete, so that whoever waits for :meth:`news` is told."""
        for stream in self._open.values():
            stream.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _joined(pieces: Sequence[Piece], prompt_tokens: int) -> Completion:
    return Completion(
        text="".join(piece.text for piece in pieces),
        token_ids=tuple(token for piece in pieces for token in piece.token_ids),
        finish_reason=str(pieces[-1].finish_reason),
        prompt_tokens=prompt_tokens,
        logprobs=tuple(each for piece in pieces for each in piece.logprobs),
    )

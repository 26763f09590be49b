"""One engine behind several served models: a base model and its adapters share weights, cache, steps and room.

Reading a prompt (a chat template, a tokenizer, the compilation of a grammar) takes up to many milliseconds, so a few
threads do it beside the event loop.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from deepseek.errors import DataError, EngineError
from deepseek.inference.generation.engine import GenerationEngine, Prompt
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.inference.generation.stream import Stream
from deepseek.serving.errors import NotReadyError, QueueFullError, RequestError
from deepseek.serving.generation.token_texts import TokenTexts
from deepseek.tasks.base import CHARS_PER_TOKEN

READERS = 4
"""Threads that read prompts."""
_SMOOTHING = 0.2


class PromptTooLongError(DataError):
    """The context has no room for a prompt and its answer."""


class Ask(NamedTuple):
    """One prompt and the answers that it is to have.

    Attributes:
        prompt: a text, token ids or chat messages.
        choices: how many answers.
        plan: from the prompt's number of tokens to one sampling for each answer; runs in a reader's thread, and its
            errors are the request's.
    """

    prompt: Prompt
    choices: int
    plan: Callable[[int], Sequence[SamplingParameters]]


class Begun(NamedTuple):
    """Prompts that were read, as token ids, and the streams of their answers."""

    prompts: list[list[int]]
    streams: list[Stream]

    def cancel(self) -> None:
        """Cancel all answers."""
        for stream in self.streams:
            stream.cancel()


class EngineHost:
    """An engine with what its models share. Admission is the event loop's, :meth:`begin` any thread's.

    Args:
        engine: closed with the host, at the latest when nobody refers to that any more.
        max_sequences: rows that the engine runs at once; more wait (``CoreSettings.max_sequences``).
        adapters: names that the engine knows (``CoreSettings.adapters``).

    Attributes:
        engine, max_sequences, adapters: as given.
        rows: rows in flight, of all models.
    """

    def __init__(self, engine: GenerationEngine, *, max_sequences: int = 64, adapters: Sequence[str] = ()) -> None:
        self.engine, self.max_sequences, self.adapters = engine, max_sequences, tuple(adapters)
        self.rows = 0
        self.token_texts = TokenTexts(engine.tokenizer)
        self._seconds = 0.0
        self._readers = ThreadPoolExecutor(READERS, "deepseek-prompts")
        self._closing = weakref.finalize(self, _close, engine, self._readers)

    @property
    def queued_rows(self) -> int:
        """Rows that wait for the engine."""
        return max(0, self.rows - self.max_sequences)

    def admit(self, name: str, rows: int, max_queue: int) -> None:
        """Count rows in. Raises :class:`RequestError` for more than can ever fit, :class:`QueueFullError`."""
        if rows > max_queue + self.max_sequences:
            raise RequestError(
                f"expected at most {max_queue + self.max_sequences} answers in a request, received {rows}; "
                "split the request"
            )
        if self.rows + rows > max_queue + self.max_sequences:
            raise QueueFullError(
                f"model {name!r} has {self.queued_rows} rows waiting of at most {max_queue}, no room for {rows} more; "
                "retry later",
                retry_after=self._seconds * (self.queued_rows + rows) / self.max_sequences,
            )
        self.rows += rows

    def release(self, rows: int, seconds: float | None = None) -> None:
        """Count rows out; ``seconds``: how long they took, if they were answered."""
        self.rows -= rows
        if seconds is not None:
            known = self._seconds or seconds
            self._seconds = (1 - _SMOOTHING) * known + _SMOOTHING * seconds

    def read(self, asks: Sequence[Ask], adapter: str | None) -> Future[Begun]:
        """Run :meth:`begin` in a reader's thread. Raises :class:`NotReadyError` when the host is closed."""
        try:
            return self._readers.submit(self.begin, asks, adapter)
        except RuntimeError as error:
            raise NotReadyError("the model was shut down; retry against another replica") from error

    def begin(self, asks: Sequence[Ask], adapter: str | None) -> Begun:
        """Read prompts and start their answers; blocks while it reads.

        Raises:
            NotReadyError: the engine is closed.
            DataError, ConfigError, UnknownNameError: as :meth:`GenerationEngine.submit`; then nothing was started.
        """
        begun = Begun([], [])
        try:
            for ask in asks:
                self._check_size(ask.prompt)
                ids = self.engine.prompt_ids(ask.prompt)
                begun.prompts.append(ids)
                for sampling in ask.plan(len(ids)):
                    begun.streams.append(self.engine.submit(ids, sampling, adapter=adapter))
        except EngineError as error:
            begun.cancel()
            raise NotReadyError(f"the model takes no requests: {error}") from error
        except BaseException:
            begun.cancel()
            raise
        return begun

    def _check_size(self, prompt: Prompt) -> None:
        """A tokenizer is linear in the text but not free, so a text that cannot fit is not read."""
        parts = [prompt] if isinstance(prompt, str) else [p.get("content") for p in prompt if isinstance(p, Mapping)]
        size, context = sum(len(part) for part in parts if isinstance(part, str)), self.engine.core.context_length
        if size > CHARS_PER_TOKEN * context:
            raise PromptTooLongError(f"the prompt has {size} characters, more than a context of {context} tokens holds")

    def close(self) -> None:
        """Cancel what runs and free the engine's memory."""
        self._closing()


def _close(engine: GenerationEngine, readers: ThreadPoolExecutor) -> None:
    readers.shutdown(wait=False, cancel_futures=True)
    engine.close()

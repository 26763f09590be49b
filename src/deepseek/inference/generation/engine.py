"""A generation engine: prompts in, streams of text out, over any core.

One thread runs the core, step after step, while there is work. Requests come from any thread into a bounded queue; a
step's tokens become text and go to the request's stream. A step that fails fails the requests that were in it, and
those alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from deepseek.errors import ConfigError, DataError, EngineError, UnknownNameError
from deepseek.inference.generation import CORES
from deepseek.inference.generation.core import CoreSettings, GenerationCore, Step
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.inference.generation.stream import Completion, Piece, Stream
from deepseek.inference.generation.text import TextOfTokens
from deepseek.inference.opening import opened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Completion", "GenerationEngine", "Piece", "Stream"]

T = TypeVar("T")
Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]


@dataclass
class _Running:
    stream: Stream
    text: TextOfTokens


@dataclass(frozen=True)
class _Request:
    sequence: int
    prompt: list[int]
    sampling: SamplingParameters
    adapter: str | None


class GenerationEngine:
    """Continues prompts for any number of threads at once. Close it, or use it in a ``with``.

    Args:
        core: what computes.
        tokenizer: of the same model.
        max_waiting: requests that may wait for a step; beyond, :meth:`submit` refuses.

    Attributes:
        core: as given; it belongs to the engine's thread.
        tokenizer: as given.
    """

    def __init__(self, core: GenerationCore, tokenizer: PreTrainedTokenizerBase, *, max_waiting: int = 4096) -> None:
        self.core, self.tokenizer = core, tokenizer
        self._max_waiting = max_waiting
        self._work = threading.Condition()
        self._waiting: list[_Request] = []
        self._cancelled: set[int] = set()
        self._running: dict[int, _Running] = {}
        self._jobs: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._next = 0
        self._closing = False
        # tokenizers keep padding and truncation state, so two threads must not share one at the same moment
        self._tokenizing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="deepseek-generation", daemon=True)
        self._thread.start()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str],
        *,
        core: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        settings: CoreSettings | None = None,
        max_waiting: int = 4096,
    ) -> GenerationEngine:
        """Load a bundle's path, a model folder, a GGUF file, a hub id or a catalogue name.

        Args:
            model: what to load (:func:`deepseek.models.resolve`).
            core: a name of :data:`deepseek.inference.generation.CORES`; ``"auto"``: the fastest here whose text is
                as good (:func:`deepseek.inference.choice.choose`), measured the first time, for a minute.
            device, dtype, settings: as :meth:`GenerationCore.load` takes them.

        Raises:
            UnknownNameError: the model, the core or the precision is not known.
            ConfigError: the model generates no text, or the core cannot run it here.
            BundleError, FetchError: see :class:`Bundle` and :func:`deepseek.models.resolve`.
        """
        if core != "auto":
            CORES.get(core)
        found = opened(model)
        if found.task.name != "text-generation":
            raise ConfigError(f"{found.name!r} is for {found.task.name}; expected a model for text-generation")
        from deepseek.models.loading import tokenizer_for

        if core == "auto":
            from deepseek.inference.choice.choosing import choice_for

            chosen = choice_for(found.checkpoint, found.task, None, device=device, dtype=dtype).chosen
            core, dtype = chosen.runtime, chosen.dtype
        # importing transformers takes about as long as compiling a model, which leaves Python alone
        with ThreadPoolExecutor(1, "deepseek-tokenizer") as beside:
            tokenizer = beside.submit(tokenizer_for, found.checkpoint)
            loaded = CORES.get(core).load(
                found.checkpoint, device=device, dtype=dtype, settings=settings or CoreSettings()
            )
            try:
                return cls(loaded, tokenizer.result(), max_waiting=max_waiting)
            except BaseException:
                loaded.close()
                raise

    def submit(
        self, prompt: Prompt, sampling: SamplingParameters | None = None, *, adapter: str | None = None
    ) -> Stream:
        """Start a request and return its stream at once.

        Args:
            prompt: a text, token ids, or chat messages (``{"role": ..., "content": ...}``).
            sampling: default: :class:`SamplingParameters`, which is greedy.
            adapter: a name of ``CoreSettings.adapters``.

        Raises:
            DataError: the prompt is empty, or leaves no room in the context.
            ConfigError: the core cannot do what ``sampling`` asks for.
            UnknownNameError: there is no such adapter.
            EngineError: the engine is closed, or too many requests wait.
        """
        wanted = sampling or SamplingParameters()
        ids = self.prompt_ids(prompt)
        room = self.core.context_length - len(ids)
        if not ids:
            raise DataError("the prompt is empty: it has no tokens, and this model begins no text of itself")
        if room < 1:
            raise DataError(
                f"the prompt has {len(ids):,} tokens; the context has {self.core.context_length:,}, of which the "
                "answer needs at least 1"
            )
        self.core.check(wanted)
        if wanted.max_new_tokens > room:
            wanted = replace(wanted, max_new_tokens=room, min_new_tokens=min(wanted.min_new_tokens, room))
        with self._work:
            if self._closing:
                raise EngineError("the engine is closed")
            if len(self._waiting) >= self._max_waiting:
                raise EngineError(f"{len(self._waiting):,} requests wait already; try again later")
            sequence, self._next = self._next, self._next + 1
            stream = Stream(len(ids), lambda: self._cancel(sequence))
            self._running[sequence] = _Running(stream, TextOfTokens(self.tokenizer, ids, wanted.stop))
            self._waiting.append(_Request(sequence, ids, wanted, adapter))
            self._work.notify_all()
        return stream

    def generate(
        self, prompts: Sequence[Prompt], sampling: SamplingParameters | Sequence[SamplingParameters] | None = None
    ) -> list[Completion]:
        """Answer prompts, all at once, in their order.

        Args:
            sampling: one for all, or one each.

        Raises:
            As :meth:`submit`; then none of the prompts is answered.
        """
        each = list(sampling) if isinstance(sampling, Sequence) else [sampling] * len(prompts)
        if len(each) != len(prompts):
            raise ConfigError(f"expected sampling parameters for {len(prompts)} prompts, received {len(each)}")
        streams: list[Stream] = []
        try:
            for prompt, own in zip(prompts, each, strict=True):
                streams.append(self.submit(prompt, own))
            return [stream.result() for stream in streams]
        except BaseException:
            for stream in streams:
                stream.cancel()
            raise

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt in any of its forms.

        Raises:
            DataError: it has none of them, or the model's chat template refuses it.
        """
        if isinstance(prompt, str):
            with self._tokenizing:
                return list(self.tokenizer(prompt)["input_ids"])
        ids = [token for token in prompt if isinstance(token, int) and not isinstance(token, bool)]
        if len(ids) == len(prompt):
            size = len(self.tokenizer)
            wrong = [token for token in ids if not 0 <= token < size]
            if wrong:
                raise DataError(f"expected token ids from 0 to {size - 1}, received {wrong[0]}")
            return ids
        from deepseek.tasks.language_modelling.chat import check_messages, prompt_of_chat

        if not self.tokenizer.chat_template:
            raise DataError("received chat messages, but this model's tokenizer has no chat template")
        with self._tokenizing:
            return prompt_of_chat(0, check_messages(0, list(prompt)), self.tokenizer)

    def run(self, job: Callable[[], T]) -> T:
        """Run ``job`` in the engine's thread, between two steps, and return what it returns.

        Raises:
            EngineError: the engine is closed.
            Exception: what ``job`` raises.
        """
        done: Future[T] = Future()
        with self._work:
            if self._closing:
                raise EngineError("the engine is closed")
            self._jobs.append((job, done))
            self._work.notify_all()
        return done.result()

    def usage(self) -> dict[str, float]:
        """The core's numbers, and how many requests the engine has (``requests``)."""
        with self._work:
            return {"requests": float(len(self._running)), **self.core.usage()}

    def close(self) -> None:
        """Cancel what runs and free the core."""
        with self._work:
            if self._closing:
                return
            self._closing = True
            self._work.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cancel(self, sequence: int) -> None:
        with self._work:
            if sequence in self._running:
                self._cancelled.add(sequence)
                self._work.notify_all()

    def _run(self) -> None:
        while True:
            with self._work:
                self._work.wait_for(
                    lambda: self._waiting or self._cancelled or self._jobs or self._closing or self.core.busy
                )
                jobs, self._jobs = self._jobs, []
                fresh, self._waiting = self._waiting, []
                cancelled, self._cancelled = self._cancelled, set()
                closing = self._closing
            if closing:
                cancelled = set(self._running)
            for job, done in jobs:
                try:
                    done.set_result(job())
                except BaseException as error:  # noqa: BLE001 - it is the caller's, who raises it
                    done.set_exception(error)
            for request in fresh:
                if request.sequence not in cancelled:
                    self._add(request)
            for sequence in cancelled:
                self.core.cancel(sequence)
                self._finish(sequence, "cancelled")
            if closing:
                self.core.close()
                return
            if self.core.busy:
                self._step()

    def _add(self, request: _Request) -> None:
        try:
            self.core.add(request.sequence, request.prompt, request.sampling, request.adapter)
        except Exception as error:  # noqa: BLE001 - it is the request's, whose stream raises it
            self._fail(request.sequence, error)

    def _step(self) -> None:
        try:
            steps = self.core.step()
        except Exception as error:  # noqa: BLE001 - the thread must live on for later requests
            for sequence in list(self._running):
                self.core.cancel(sequence)
                known = isinstance(error, (ConfigError, DataError, EngineError, UnknownNameError))
                wrapped = EngineError(f"generating failed: {type(error).__name__}: {error}")
                wrapped.__cause__ = error
                self._fail(sequence, error if known else wrapped)
            return
        for step in steps:
            self._deliver(step)

    def _deliver(self, step: Step) -> None:
        running = self._running.get(step.sequence)
        if running is None:
            return
        text = running.text.add(step.token_ids, last=step.finish_reason is not None)
        reason = step.finish_reason
        if running.text.stopped:
            if reason is None:
                self.core.cancel(step.sequence)
            reason = "stop"
        if reason is not None:
            with self._work:
                self._running.pop(step.sequence, None)
        running.stream.put(Piece(text, step.token_ids, step.logprobs, reason))

    def _finish(self, sequence: int, reason: str) -> None:
        with self._work:
            running = self._running.pop(sequence, None)
        if running is not None:
            running.stream.put(Piece(running.text.add((), last=True), (), (), reason))

    def _fail(self, sequence: int, error: BaseException) -> None:
        with self._work:
            running = self._running.pop(sequence, None)
        if running is not None:
            running.stream.fail(error)

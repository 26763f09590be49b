"""A generation engine whose tokens are known: the bytes of UTF-8, and answers that follow from the prompt."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.errors import ConfigError
from deepseek.inference.generation import (
    CoreSettings,
    GenerationCore,
    GenerationEngine,
    SamplingParameters,
    Step,
    TokenLogprobs,
)
from deepseek.inference.runtime import Availability
from deepseek.models.checkpoint import Checkpoint
from deepseek.serving.generation.generator import ServedGenerator
from deepseek.serving.generation.host import EngineHost
from deepseek.tasks.signature import Field, Signature
from deepseek.tasks.text_generation import TextGeneration


class ByteTokenizer:
    """Tokens are the bytes of UTF-8; a chat is its messages, a line each."""

    chat_template = "lines"

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}

    def __len__(self) -> int:
        return 256

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return bytes(ids).decode(errors="replace")

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]], **_: Any) -> dict[str, list[int]]:
        return self("".join(f"{m['role']}: {m['content']}\n" for m in messages))


class Echo(GenerationCore):
    """Answers ``<prompt|seed>`` in upper case, a byte a step; an adapter's answer begins with its name. The answer to a
    prompt that has "endless" in it stops after its second byte, and goes on to run until it is cancelled.

    Attributes:
        gate: steps wait for it.
        sampled: parameters of each sequence, in order.
        cancelled: sequences that were.
        failure: raised by the next step.
    """

    name = "echo"

    def __init__(self, adapters: Sequence[str] = ()) -> None:
        self.adapters = adapters
        self.left: dict[int, tuple[list[int], SamplingParameters]] = {}
        self.budgets: dict[int, int] = {}
        self.endless: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.sampled: list[SamplingParameters] = []
        self.cancelled: list[int] = []
        self.failure: Exception | None = None
        self.steps = 0

    context_length, vocabulary, end_tokens = 400, 256, frozenset[int]()  # type: ignore[assignment]

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, ("cpu",), "")

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, device: str = "auto", dtype: str = "auto", settings: CoreSettings) -> Any:
        raise NotImplementedError

    def check(self, sampling: SamplingParameters) -> None:
        if sampling.grammar is not None:
            raise ConfigError("this core follows no grammar")

    def add(
        self, sequence: int, prompt: Sequence[int], sampling: SamplingParameters, adapter: str | None = None
    ) -> None:
        seed = "" if sampling.seed is None else f"|{sampling.seed}"
        text = f"{adapter or ''}<{bytes(prompt).decode().upper()}{seed}>"
        self.sampled.append(sampling)
        self.left[sequence] = (list(text.encode()), sampling)
        self.budgets[sequence] = sampling.max_new_tokens
        if "ENDLESS" in text:
            self.endless.add(sequence)

    def step(self) -> list[Step]:
        assert self.gate.wait(30)
        self.steps += 1
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        steps = []
        for sequence, (tokens, sampling) in list(self.left.items()):
            if sequence in self.endless and sampling.max_new_tokens - self.budgets[sequence] == 2:
                time.sleep(0.001)
                continue
            token = tokens.pop(0)
            self.budgets[sequence] -= 1
            reason = "stop" if not tokens else "length" if self.budgets[sequence] == 0 else None
            if reason is not None:
                del self.left[sequence]
            logprobs: tuple[TokenLogprobs, ...] = ()
            if sampling.logprobs is not None:
                top = tuple((token + i, -0.5 - i) for i in range(sampling.logprobs))
                logprobs = (TokenLogprobs(-0.5, top),)
            steps.append(Step(sequence, (token,), logprobs, reason))
        return steps

    def cancel(self, sequence: int) -> None:
        self.cancelled.append(sequence)
        self.left.pop(sequence, None)

    @property
    def busy(self) -> bool:
        return bool(self.left)


def echoing(name: str = "echo", *, adapters: Sequence[str] = (), max_sequences: int = 64) -> ServedGenerator:
    """A served model whose answers are known."""
    engine = GenerationEngine(Echo(adapters), ByteTokenizer())  # type: ignore[arg-type]
    host = EngineHost(engine, max_sequences=max_sequences, adapters=adapters)
    return ServedGenerator(host, TextGeneration(), name=name)


def core_of(model: ServedGenerator) -> Echo:
    """The core of :func:`echoing`'s model."""
    core = model.host.engine.core
    assert isinstance(core, Echo)
    return core


class FakeEmbedder:
    """A vector of a text's length, first and last character."""

    name, version, task, platform = "vectors", "1", "sentence-embedding", "fake"
    signature = Signature(
        inputs=(Field(name="text", dtype="string"),),
        outputs=(
            Field(name="embedding", dtype="float32", shape=(-1,)),
            Field(name="prompt_tokens", dtype="int64"),
        ),
    )

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        return [
            {
                "embedding": [float(len(t)), ord(t[0]) / 1000, ord(t[-1]) / 1000],
                "prompt_tokens": len(t.split()),
            }
            for t in (row["text"] for row in rows)
        ]

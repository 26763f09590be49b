"""A text-generation model served by continuous batching: each request joins the engine's next step and leaves when it
is complete, so that short answers do not wait for long ones.

One :class:`ServedGenerator` answers rows of the task's signature (plain JSON, Open Inference Protocol, blocking calls)
and gives the OpenAI routes their streams. Each adapter is a served model of its own on the same engine, so that scopes,
limits and metrics by model name hold for adapters too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from deepseek.errors import ConfigError
from deepseek.inference.generation.core import CoreSettings
from deepseek.inference.generation.engine import GenerationEngine
from deepseek.inference.generation.executable import sampling_of
from deepseek.inference.generation.sampling import SamplingParameters
from deepseek.inference.generation.stream import Completion
from deepseek.inference.opening import opened
from deepseek.serving.generation.batching import GenerationBatcher
from deepseek.serving.generation.host import Ask, EngineHost, PromptTooLongError
from deepseek.serving.models.served_model import Outputs, Parameters, Row
from deepseek.tasks.text_generation import Decoding, TextGeneration

if TYPE_CHECKING:
    from deepseek.tasks.signature import Signature


class ServedGenerator:
    """A generating model, or an adapter of one; fits :class:`ServedModel` and :class:`BatchingModel`.

    Close it when it is served no more, or use it in a ``with``; its adapters end with it.

    Args:
        host: the engine, which this model's adapters share.
        task: what rows and parameters mean.
        name, version: as in URLs.
        base: name of the model that this is an adapter of.
        adapter: the engine's name of this adapter.
    """

    def __init__(
        self,
        host: EngineHost,
        task: TextGeneration,
        *,
        name: str,
        version: str = "1",
        base: str = "",
        adapter: str | None = None,
    ) -> None:
        self.host, self.definition = host, task
        self.name, self.version, self.base, self.adapter = name, version, base, adapter

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str],
        *,
        name: str | None = None,
        core: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        settings: CoreSettings | None = None,
    ) -> Self:
        """Load a bundle's path, a model folder, a GGUF file, a hub id or a catalogue name.

        Args:
            name: the name in URLs; default: the model's.
            core, device, dtype, settings: as :meth:`GenerationEngine.load` takes them; ``settings.adapters`` are
                served too.

        Raises:
            UnknownNameError, ConfigError, BundleError, FetchError: as :meth:`GenerationEngine.load`.
        """
        found = opened(model)
        if not isinstance(found.task, TextGeneration):
            raise ConfigError(f"{found.name!r} is for {found.task.name}; expected a model for text-generation")
        chosen = settings or CoreSettings()
        engine = GenerationEngine.load(model, core=core, device=device, dtype=dtype, settings=chosen)
        host = EngineHost(engine, max_sequences=chosen.max_sequences, adapters=tuple(chosen.adapters))
        return cls(host, found.task, name=name or found.name, version=found.version)

    def family(self) -> list[ServedGenerator]:
        """This model and its adapters, each to be served under its own name."""
        return [
            self,
            *(
                ServedGenerator(self.host, self.definition, name=a, version=self.version, base=self.name, adapter=a)
                for a in self.host.adapters
                if self.adapter is None
            ),
        ]

    @property
    def task(self) -> str:
        """``"text-generation"``."""
        return self.definition.name

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and parameters of one row."""
        return self.definition.signature

    @property
    def platform(self) -> str:
        """Name of the generation core."""
        return self.host.engine.core.name

    @property
    def context_length(self) -> int:
        """Tokens of the longest sequence, prompt and answer together."""
        return min(self.host.engine.core.context_length, self.definition.max_length)

    def batcher(self, *, max_queue: int) -> GenerationBatcher:
        """What takes this model's rows on an event loop."""
        return GenerationBatcher(self, max_queue=max_queue)

    def predict(self, rows: Sequence[Row], parameters: Parameters | None = None) -> Outputs:
        """Answer rows, all of them at once; blocks, and may be called by any number of threads.

        Raises:
            DataError, ConfigError: a row or a parameter is wrong; nothing was generated.
            EngineError: generating failed.
        """
        begun = self.host.begin(self.asks(rows, parameters or {}), self.adapter)
        try:
            completions = [stream.result() for stream in begun.streams]
        except BaseException:
            begun.cancel()
            raise
        return self.outputs(begun.prompts, completions, parameters or {})

    def asks(self, rows: Sequence[Row], parameters: Parameters) -> list[Ask]:
        """What rows and parameters of the task's signature ask of the engine.

        Raises:
            DataError, ConfigError: a row lacks its prompt, or a parameter is wrong.
        """
        self.definition.check_parameters(parameters)
        decoding = Decoding.of(parameters)
        sampling = sampling_of(decoding.options)

        def plan(tokens: int) -> list[SamplingParameters]:
            if tokens >= self.context_length:
                raise PromptTooLongError(f"the prompt has {tokens} tokens; the context has {self.context_length}")
            return [replace(sampling, max_new_tokens=decoding.budget(tokens, self.context_length))]

        column = self.definition.text
        prompts = [
            row[column] if isinstance(row.get(column), list) else self.definition.text_at(number, row)
            for number, row in enumerate(rows)
        ]
        return [Ask(prompt, 1, plan) for prompt in prompts]

    def outputs(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Completion], parameters: Parameters
    ) -> Outputs:
        """Answers as the task's signature has them."""
        full_text = Decoding.of(parameters).full_text
        decode = self.host.engine.tokenizer.decode
        return [
            {
                "text": (decode(ids, skip_special_tokens=True) if full_text else "") + answer.text,
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": len(answer.token_ids),
                "finish_reason": answer.finish_reason,
            }
            for ids, answer in zip(prompts, completions, strict=True)
        ]

    def close(self) -> None:
        """Cancel what runs and free the engine's memory, its adapters' too; an adapter leaves that to its model."""
        if self.adapter is None:
            self.host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

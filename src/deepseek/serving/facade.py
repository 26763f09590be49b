"""``DeepSeekInference``: a model in three lines, inside any Python program or web application.

``generate`` and ``predict`` block until the answer is there. Inside an ``async`` handler that is harmless while one
person tries it out, but it stops the event loop for every other request: there, write ``await model.agenerate(...)``,
which runs the model in a worker thread and leaves the loop free. Calls are answered one after the other either way.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

from deepseek.errors import ConfigError
from deepseek.inference import Predictor

Messages = Sequence[Mapping[str, str]]


class DeepSeekInference:
    """A loaded model that generates text or answers rows.

    Example:
        >>> model = DeepSeekInference.from_pretrained("smollm2-135m-instruct")
        >>> model.generate("The capital of France is", max_length=200)
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"deepseek-{predictor.name}")

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        task: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        runtime: str = "torch",
    ) -> DeepSeekInference:
        """Load a bundle's path, a Hugging Face folder, a GGUF file, a hub id or a catalogue name (``"deepseek-7b"``).

        Raises:
            UnknownNameError: the name is none of these; the nearest names are in the message.
            FetchError: the name is known but cannot be fetched; the message says what to do.
            ConfigError: the checkpoint does not fit the task, or the device is not here.
        """
        return cls(Predictor.load(model, task=task, device=device, dtype=dtype, runtime=runtime))

    @overload
    def generate(self, text: str, **options: Any) -> str: ...
    @overload
    def generate(self, text: Messages, **options: Any) -> str: ...
    @overload
    def generate(self, text: list[str], **options: Any) -> list[str]: ...

    def generate(self, text: str | list[str] | Messages, **options: Any) -> str | list[str]:
        """Continue a prompt and return the new text.

        Args:
            text: a prompt; a list of prompts, answered in one batch; or chat messages
                (``[{"role": "user", "content": "..."}]``), which are put through the model's chat template.
            options: ``max_length`` (prompt and new tokens together, as in transformers) or ``max_new_tokens`` (default
                128), ``do_sample``, ``temperature``, ``top_k``, ``top_p``, ``repetition_penalty``, ``seed``,
                ``return_full_text``. Decoding is greedy unless a sampling option is given.

        Returns:
            The generated text without the prompt (with it, when ``return_full_text=True``); a list for a list.

        Raises:
            ConfigError: the model is not for text generation.
            DataError: an option or the prompt is wrong, e.g. the prompt fills ``max_length``.
        """
        if self.predictor.task != "text-generation":
            raise ConfigError(
                f"{self.predictor.name!r} is for {self.predictor.task}; generate() needs a text-generation model "
                f"(use predict() for this one)"
            )
        many = isinstance(text, list) and all(isinstance(t, str) for t in text)
        prompts: list[Any] = list(text) if many else [text]
        column = self.predictor.signature.inputs[0].name
        answers = self.predictor.predict([{column: p} for p in prompts], options)
        texts = [str(answer["text"]) for answer in answers]
        return texts if many else texts[0]

    async def agenerate(self, text: str | list[str] | Messages, **options: Any) -> str | list[str]:
        """As :meth:`generate`, without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, lambda: self.generate(text, **options))

    def predict(self, inputs: str | Sequence[Any], **parameters: Any) -> Any:
        """Answer one input or a list of them, for any task.

        Args:
            inputs: a string or a dict (one row), or a list of them.

        Returns:
            One answer (a dict as the task's signature says) or a list of answers.

        Raises:
            DataError: an input or a parameter is wrong.
        """
        single = isinstance(inputs, str | Mapping)
        column = self.predictor.signature.inputs[0].name
        items: list[Any] = [inputs] if single else list(inputs)
        rows = [item if isinstance(item, Mapping) else {column: item} for item in items]
        answers = self.predictor.predict(rows, parameters)
        return answers[0] if single else answers

    async def apredict(self, inputs: str | Sequence[Any], **parameters: Any) -> Any:
        """As :meth:`predict`, without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(
            self._worker, lambda: self.predict(inputs, **parameters)
        )

"""One object that answers: a task, a tokenizer or image processor, and a loaded model."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek import progress
from deepseek.inference import RUNTIMES
from deepseek.inference.opening import opened

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Executable, Generated, Task
    from deepseek.tasks.signature import Signature

PROGRESS_FROM_ROWS = 256


class Predictor:
    """Answers rows, in batches of its own making: sorted by length, so that little is padding.

    Attributes:
        name: the name it is served under.
        version: the bundle's version, ``"1"`` for a plain checkpoint.
        task: name of the task.
        platform: name of the runtime.
        reference: statistics of the training data (:mod:`deepseek.data.profiles`); empty where they are not known.
        reference_metrics: the model's scores on held-out rows, as its bundle has them.
    """

    def __init__(
        self,
        *,
        name: str,
        task: Task,
        tokenizer: Any,
        model: Executable,
        version: str = "1",
        platform: str = "torch",
        batch_size: int = 32,
        reference: Mapping[str, Any] | None = None,
        reference_metrics: Mapping[str, float] | None = None,
    ) -> None:
        self.reference, self.reference_metrics = reference or {}, reference_metrics or {}
        self.name, self.version, self.platform = name, version, platform
        self.definition, self.tokenizer, self.model = task, tokenizer, model
        self.task = type(task).name
        self.batch_size = batch_size
        # tokenizers keep padding and truncation state, so two threads must not share one at the same moment
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str],
        *,
        task: str | None = None,
        name: str | None = None,
        version: str | None = None,
        runtime: str = "torch",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
    ) -> Predictor:
        """Load a bundle's path, a model folder, a GGUF file, a hub id or a catalogue name.

        Args:
            model: what to load (:func:`deepseek.models.resolve`).
            task: what the model is for; read from a bundle, guessed from a checkpoint's architecture when ``None``.
            name, version: what it is served under; those of the bundle when ``None``.
            runtime: a name of :data:`deepseek.inference.RUNTIMES`; ``"auto"``: the fastest here that is exact enough
                (:func:`deepseek.inference.choice.choose`), measured the first time, for some seconds.

        Raises:
            UnknownNameError: the model, the task or the runtime is not known.
            ConfigError: the checkpoint does not fit the task, or the device is not here.
            BundleError, FetchError: see :class:`Bundle` and :func:`deepseek.models.resolve`.
        """
        engine = None if runtime == "auto" else RUNTIMES.get(runtime)()
        found = opened(model, task)
        from deepseek.models.loading import processor_for

        processor = processor_for(found.checkpoint, type(found.task).processor)
        if engine is None:
            from deepseek.inference.choice.choosing import choice_for

            chosen = choice_for(
                found.checkpoint, found.task, processor, device=device, dtype=dtype, batch_size=batch_size
            ).chosen
            runtime, dtype = chosen.runtime, chosen.dtype
        loaded: Executable
        if engine is None and type(found.task).head == "causal-lm":
            from deepseek.inference.generation.executable import load_executable

            loaded = load_executable(found.checkpoint, core=runtime, device=device, dtype=dtype)
        else:
            engine = engine or RUNTIMES.get(runtime)()
            loaded = engine.load(found.checkpoint, type(found.task).head, device=device, dtype=dtype)
        return cls(
            name=name or found.name,
            version=version or found.version,
            task=found.task,
            tokenizer=processor,
            model=loaded,
            platform=runtime,
            batch_size=batch_size,
            reference=found.reference,
            reference_metrics=found.metrics,
        )

    @property
    def answer_column(self) -> str | None:
        """The training data's column with the answers."""
        return self.definition.answer_column

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and parameters of one row."""
        return self.definition.signature

    def predict(
        self, rows: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Answer rows in their order; the signature is the same for one row and for a million.

        Raises:
            DataError: a row or a parameter is wrong; nothing was computed.
        """
        chosen = dict(parameters or {})
        self.definition.check_parameters(chosen)
        if not rows:
            return []
        with self._lock:
            features = self.definition.prepare(rows, self.tokenizer)
            order = sorted(range(len(features)), key=lambda i: self.definition.length(features[i]), reverse=True)
            answers: list[dict[str, Any]] = [{}] * len(features)
            with progress.quiet(len(rows) < PROGRESS_FROM_ROWS), progress.bar("predict", len(rows)) as bar:
                for start in range(0, len(order), self.batch_size):
                    chunk = order[start : start + self.batch_size]
                    results = self.definition.run(self.model, [features[i] for i in chunk], self.tokenizer, chosen)
                    for i, result in zip(chunk, results, strict=True):
                        answers[i] = result
                    bar.advance(len(chunk))
        return answers

    def score(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The task's metrics on rows with known answers, each with its 95% interval.

        Raises:
            DataError: there are no rows, or a row lacks an input or its answer.
        """
        with self._lock, progress.quiet(len(rows) < PROGRESS_FROM_ROWS), progress.bar("score", None, "inputs") as bar:
            watched = _Watched(self.model, bar)
            return self.definition.score(watched, rows, self.tokenizer, batch_size=self.batch_size)


class _Watched:
    """An executable that moves a progress bar."""

    def __init__(self, model: Executable, bar: progress.Bar) -> None:
        self._model, self._bar = model, bar

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = self._model.forward(batch)
        self._bar.advance(len(next(iter(batch.values()))))
        return outputs

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        answers = self._model.generate(batch, options)
        self._bar.advance(len(answers))
        return answers

"""One object that answers: a task, a tokenizer or image processor, and a loaded model."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek import progress
from deepseek.bundles import Bundle
from deepseek.errors import ConfigError
from deepseek.inference import RUNTIMES
from deepseek.models.checkpoint import Checkpoint, resolve
from deepseek.tasks import TASKS

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
    ) -> None:
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
        runtime: str = "torch",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
    ) -> Predictor:
        """Load a bundle's path, a model folder, a GGUF file, a hub id or a catalogue name.

        Args:
            model: what to load (:func:`deepseek.models.resolve`).
            task: what the model is for; read from a bundle, guessed from a checkpoint's architecture when ``None``.

        Raises:
            UnknownNameError: the model, the task or the runtime is not known.
            ConfigError: the checkpoint does not fit the task, or the device is not here.
            BundleError, FetchError: see :class:`Bundle` and :func:`deepseek.models.resolve`.
        """
        engine = RUNTIMES.get(runtime)()
        if Path(model).expanduser().is_dir() and Bundle.is_bundle(Path(model).expanduser()):
            bundle = Bundle.open(model)
            if task not in (None, bundle.manifest.task.name):
                raise ConfigError(f"bundle {bundle.path} is for {bundle.manifest.task.name!r}, not for {task!r}")
            definition, checkpoint = bundle.task, bundle.checkpoint
            name, version = name or bundle.name, bundle.manifest.version
        else:
            checkpoint = resolve(model)
            definition = _task_of(checkpoint, task)
            name, version = name or _served_name(model, checkpoint), "1"
        loaded = engine.load(checkpoint, type(definition).head, device=device, dtype=dtype)
        from deepseek.models.loading import processor_for

        return cls(
            name=name,
            version=version,
            task=definition,
            tokenizer=processor_for(checkpoint, type(definition).processor),
            model=loaded,
            platform=runtime,
            batch_size=batch_size,
        )

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


def _served_name(model: str | os.PathLike[str], checkpoint: Checkpoint) -> str:
    path = Path(model)
    if path.exists():
        return path.stem if path.is_file() else path.resolve().name
    return checkpoint.card.name if checkpoint.card else os.fspath(model).rpartition("/")[2]


def _task_of(checkpoint: Checkpoint, task: str | None) -> Task:
    """The task of a plain checkpoint, with what its config knows of labels and context length."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False)
    architecture = (getattr(config, "architectures", None) or [""])[0]
    heads = {"ForSequenceClassification": "text-classification", "ForCausalLM": "text-generation"}
    heads |= {"LMHeadModel": "text-generation", "ForMaskedLM": "masked-language-modelling"}
    heads |= {"ForTokenClassification": "token-classification", "ForImageClassification": "image-classification"}
    guessed = next((name for ending, name in heads.items() if architecture.endswith(ending)), None)
    if guessed == "text-classification":
        kind_of = getattr(config, "problem_type", None) or ("regression" if config.num_labels == 1 else "")
        guessed = {"regression": "text-regression", "multi_label_classification": "multi-label-classification"}.get(
            kind_of, guessed
        )
    chosen = task or guessed
    if chosen is None:
        raise ConfigError(
            f"{checkpoint.name!r} is a {architecture or type(config).__name__}, which names no task; fine-tune it "
            f"first (`deepseek train`), or name the task (known: {', '.join(TASKS.names())})"
        )
    kind = TASKS.get(chosen)
    limit = getattr(config, "max_position_embeddings", None)
    options: dict[str, Any] = {}
    if kind.head in ("sequence-classification", "token-classification"):
        if "labels" in kind.model_fields:
            options["labels"] = tuple(str(config.id2label[i]) for i in range(config.num_labels))
        if limit:
            options["max_length"] = min(256, limit)
    elif chosen == "text-generation" and limit:
        options["max_length"] = limit
    elif chosen == "image-classification":
        options["labels"] = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    elif chosen in ("masked-language-modelling", "sentence-embedding"):
        options["max_length"] = min(256, limit or 256)
        if chosen == "sentence-embedding":
            options |= _pooling(checkpoint)
    return kind(**options)


def _pooling(checkpoint: Checkpoint) -> dict[str, Any]:
    """How a sentence-transformers folder makes vectors of token states; nothing for other folders."""
    from deepseek.tasks.embedding.pooling import POOLING_FILE, pooling_of

    if not (checkpoint.path / "modules.json").is_file():
        return {}
    modules = [module["type"] for module in json.loads((checkpoint.path / "modules.json").read_text("utf-8"))]
    file = checkpoint.path / POOLING_FILE
    pooling = pooling_of(json.loads(file.read_text("utf-8"))) if file.is_file() else None
    kinds = [kind.rpartition(".")[2] for kind in modules]
    if pooling is None or kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ConfigError(
            f"{checkpoint.name!r} makes its vectors in a way that is not known here: {', '.join(kinds)}; expected "
            "Transformer, Pooling (mean, cls or last) and perhaps Normalize"
        )
    return {"pooling": pooling, "normalise": kinds[-1] == "Normalize"}

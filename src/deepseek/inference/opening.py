"""From what a person names to a task and the checkpoint that it runs on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.bundles import Bundle
from deepseek.errors import ConfigError
from deepseek.models.checkpoint import Checkpoint, resolve
from deepseek.tasks import TASKS

if TYPE_CHECKING:
    from deepseek.tasks.base import Task


@dataclass(frozen=True)
class Opened:
    """A model before its weights are loaded; ``name`` and ``version`` are those that it is served under.

    A bundle also knows the statistics of the data that it was trained on, and its scores.
    """

    task: Task
    checkpoint: Checkpoint
    name: str
    version: str
    reference: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def opened(model: str | os.PathLike[str], task: str | None = None) -> Opened:
    """Open a bundle's path, a model folder, a GGUF file, a hub id or a catalogue name.

    Raises:
        UnknownNameError: the model or the task is not known.
        ConfigError: the bundle is for another task, or the checkpoint's architecture names none.
        BundleError, FetchError: see :class:`Bundle` and :func:`deepseek.models.resolve`.
    """
    path = Path(model).expanduser()
    if path.is_dir() and Bundle.is_bundle(path):
        bundle = Bundle.open(model)
        if task not in (None, bundle.manifest.task.name):
            raise ConfigError(f"bundle {bundle.path} is for {bundle.manifest.task.name!r}, not for {task!r}")
        told = bundle.manifest
        return Opened(bundle.task, bundle.checkpoint, bundle.name, told.version, told.reference, told.metrics)
    checkpoint = resolve(model)
    return Opened(_task_of(checkpoint, task), checkpoint, _served_name(model, checkpoint), "1")


def _served_name(model: str | os.PathLike[str], checkpoint: Checkpoint) -> str:
    path = Path(model)
    if path.exists():
        return path.stem if path.is_file() else path.resolve().name
    return checkpoint.card.name if checkpoint.card else os.fspath(model).rpartition("/")[2]


class _Config:
    """A checkpoint's config. What its file says as transformers' class would is read from there: importing the class
    of a decoder takes transformers 5 two seconds, a third of a start."""

    _PLAIN = ("architectures", "max_position_embeddings")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        file = folder / "config.json"
        told = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        self._told = {name: told[name] for name in self._PLAIN if told.get(name)}

    def __getattr__(self, name: str) -> Any:
        return self._told[name] if name in self._told else getattr(self._whole, name)

    @cached_property
    def _whole(self) -> Any:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self._folder, trust_remote_code=False)


def _task_of(checkpoint: Checkpoint, task: str | None) -> Task:
    """The task of a plain checkpoint, with what its config knows of labels and context length."""
    config = _Config(checkpoint.path)
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
            f"{checkpoint.name!r} is a {architecture or config.model_type}, which names no task; fine-tune it "
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

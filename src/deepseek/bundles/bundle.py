"""Open, check and describe a bundle."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from deepseek.artifacts.cache import restore_interrupted, sha256
from deepseek.bundles.manifest import FILE, Manifest
from deepseek.errors import BundleError, UnknownNameError
from deepseek.models.checkpoint import Checkpoint, know_architecture
from deepseek.tasks import TASKS

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase

    from deepseek.tasks.base import Task


class Bundle:
    """A self-describing model directory.

    The root is a transformers model folder (merged weights, config, tokenizer), each folder under ``adapters/`` is a
    PEFT adapter, and ``deepseek.json`` says what the model is for and how it was made.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @staticmethod
    def is_bundle(path: str | os.PathLike[str]) -> bool:
        """Whether a folder is a bundle."""
        return (Path(path) / FILE).is_file()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> Bundle:
        """Open a bundle; with ``verify``, also check the SHA-256 of every file.

        Raises:
            BundleError: the folder is missing or is not a bundle, or its manifest or files are damaged.
        """
        folder = Path(path).expanduser()
        restore_interrupted(folder)
        if not folder.is_dir():
            raise BundleError(f"there is no bundle at {folder}; `deepseek train RECIPE` makes one")
        if not cls.is_bundle(folder):
            raise BundleError(f"{folder} is not a bundle: it has no {FILE}")
        try:
            manifest = Manifest.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise BundleError(f"{folder / FILE} is damaged or of another format: {error}") from error
        bundle = cls(folder.resolve(), manifest)
        bundle.check(hashes=verify)
        return bundle

    def check(self, *, hashes: bool = True) -> None:
        """Compare the files with the manifest: presence and size, and with ``hashes`` their SHA-256.

        Raises:
            BundleError: the first files that differ, and how.
        """
        wrong = []
        for name, record in self.manifest.files.items():
            path = self.path / name
            if not path.is_file():
                wrong.append(f"{name} is missing")
            elif path.stat().st_size != record.size:
                wrong.append(f"{name} has {path.stat().st_size} bytes, expected {record.size}")
            elif hashes and sha256(path) != record.sha256:
                wrong.append(f"{name} has other contents than were written (SHA-256 differs)")
        if wrong:
            raise BundleError(f"bundle {self.path} is damaged: {'; '.join(wrong[:5])}")

    @property
    def name(self) -> str:
        """The name the bundle is served under."""
        return self.manifest.name

    @property
    def checkpoint(self) -> Checkpoint:
        """The merged model as a checkpoint."""
        know_architecture(self.path)
        return Checkpoint(self.path, str(self.path))

    @cached_property
    def task(self) -> Task:
        """The task, with its labels.

        Raises:
            UnknownNameError: no installed plugin brings the task.
            BundleError: the task's configuration is not what that task takes.
        """
        record = self.manifest.task
        try:
            return TASKS.get(record.name)(**record.config)
        except ValidationError as error:
            raise BundleError(
                f"bundle {self.path}: the configuration of task {record.name!r} is wrong: {error}"
            ) from error

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The merged model as a transformers model."""
        from deepseek.models.loading import from_pretrained

        return from_pretrained(self.checkpoint, head=type(self.task).head, **options)

    def load_processor(self) -> PreTrainedTokenizerBase | BaseImageProcessor:
        """What the bundle's task turns raw values into tensors with: a tokenizer or an image processor."""
        from deepseek.models.loading import processor_for

        return processor_for(self.checkpoint, type(self.task).processor)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The bundle's tokenizer."""
        from deepseek.models.loading import tokenizer_for

        return tokenizer_for(self.checkpoint)

    def adapter_path(self, name: str) -> Path:
        """The PEFT folder of one adapter; raises :class:`UnknownNameError` when there is none of that name."""
        if name not in self.manifest.adapters:
            raise UnknownNameError("adapter", name, self.manifest.adapters)
        return self.path / self.manifest.adapters[name]

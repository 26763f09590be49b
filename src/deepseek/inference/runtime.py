"""The contract of a runtime: run a checkpoint on given hardware."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deepseek.errors import ConfigError
from deepseek.inference.recording import Batch
from deepseek.models.checkpoint import Checkpoint
from deepseek.tasks.base import Executable


@dataclass(frozen=True)
class Availability:
    """Whether a runtime works here, on which devices, and if not, what to do about it."""

    works: bool
    devices: tuple[str, ...]
    detail: str


class Runtime(ABC):
    """Loads checkpoints. One instance may load many."""

    name: ClassVar[str]
    makes_copies: ClassVar[tuple[str, ...]] = ()
    """Precisions that :meth:`quantize` and :meth:`open_copy` know: ``"int8"``, ``"int4"``."""

    @classmethod
    @abstractmethod
    def available(cls) -> Availability:
        """Look at this machine; never raises."""

    @classmethod
    def precisions(cls, checkpoint: Checkpoint, head: str, device: str) -> tuple[str, ...]:
        """Values of ``dtype`` that are worth measuring here, the most exact first; none: it cannot run such a head.

        ``"int8"`` and ``"int4"`` are among them only where the checkpoint's bundle has a copy that was found to be as
        good.

        Args:
            checkpoint, head, device: as :meth:`load` takes them.
        """
        return ("auto",)

    def quantize(
        self, checkpoint: Checkpoint, head: str, batches: Sequence[Batch], folder: Path, dtype: str = "int8"
    ) -> None:
        """Write a quantised copy of a checkpoint into an empty ``folder``.

        Once it is in the checkpoint's bundle (``Manifest.compiled``), :meth:`load` takes it for the same ``dtype``.

        Args:
            batches: what activations are calibrated with.
            dtype: one of :attr:`makes_copies`, which the caller sees to; ``"int4"`` is of weights alone.

        Raises:
            ConfigError: this runtime makes none, or it cannot convert the model.
        """
        raise ConfigError(f"the runtime {self.name!r} makes no {dtype} copies")

    def open_copy(self, folder: Path, *, device: str = "auto") -> Executable:
        """Load what :meth:`quantize` wrote.

        Raises:
            ConfigError: this runtime makes none, or the device is not here.
        """
        raise ConfigError(f"the runtime {self.name!r} makes no copies")

    @abstractmethod
    def load(self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto") -> Executable:
        """Load a checkpoint.

        Args:
            checkpoint: a resolved checkpoint folder.
            head: the head that the task needs, a name of ``deepseek.models.loading.HEADS``.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
            dtype: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``; a runtime may know others.

        Raises:
            ConfigError: the device is not here, or the checkpoint does not have that head.
        """

"""The contract of a runtime: run a checkpoint on given hardware."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

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

    @classmethod
    @abstractmethod
    def available(cls) -> Availability:
        """Look at this machine; never raises."""

    @abstractmethod
    def load(self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto") -> Executable:
        """Load a checkpoint.

        Args:
            checkpoint: a resolved checkpoint folder.
            head: the head that the task needs, a name of ``deepseek.models.loading.HEADS``.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
            dtype: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``.

        Raises:
            ConfigError: the device is not here, or the checkpoint does not have that head.
        """

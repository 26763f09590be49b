"""The contract of an export format: write a model as another tool's files, and open them to be compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from deepseek.models.checkpoint import Checkpoint
    from deepseek.tasks.base import Executable, Task


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        name: what the model is called, without a path.
        processor: the task's tokenizer or image processor.
    """

    name: str
    checkpoint: Checkpoint
    task: Task
    processor: Any

    @property
    def head(self) -> str:
        """The head that the task needs."""
        return type(self.task).head


class ExportFormat(ABC):
    """Writes models as files of one kind.

    Attributes:
        heads: heads that it can express, names of ``deepseek.models.loading.HEADS``.
        dtypes: precisions that it can write, the default first.
        companions: folder inside the export for tokenizer and configuration; empty: beside the model.
    """

    name: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    dtypes: ClassVar[tuple[str, ...]]
    companions: ClassVar[str] = ""

    def check(self, source: Source, dtype: str) -> None:  # noqa: B027 - most refuse nothing
        """Refuse what cannot be expressed, before anything is loaded or written.

        Raises:
            ConfigError: the model cannot be expressed; the message says why, and which formats can.
            MissingExtraError: what writes the format is not installed.
        """

    @abstractmethod
    def write(self, source: Source, dtype: str, folder: Path) -> None:
        """Write the model's files into ``folder``; tokenizer and configuration are written by the caller.

        Raises:
            ConfigError: an operator or a layer cannot be expressed; the message names it, and what can run it.
        """

    @abstractmethod
    def open(self, folder: Path) -> Executable:
        """Load what :meth:`write` wrote, with the tool that the format is for, on the CPU."""

    def notes(self, source: Source, folder: Path) -> tuple[str, ...]:
        """What a person who uses the files should know, found by looking at them.

        Raises:
            AccuracyError: they are not the model.
        """
        return ()

"""What every part of the LoRA benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where to work, with which seeds, and how often.

    ``quick`` is a smoke test: few rows, tiny models, figures without meaning.
    """

    folder: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: int = 1
    quick: bool = False

    def pick(self, normal: int, quick: int) -> int:
        """A size or a number of steps."""
        return quick if self.quick else normal

    def workspace(self, name: str) -> Path:
        """A folder for a part."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

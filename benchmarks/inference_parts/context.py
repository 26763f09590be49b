"""What every part of the inference benchmark is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where to work and how often.

    ``quick`` is a smoke test: tiny models, few cells and contestants, figures without meaning.
    """

    folder: Path
    rounds: int = 5
    quick: bool = False

    def once(self, folder: Path, make: Callable[[], object]) -> None:
        """Let ``make`` fill a folder of the workspace, unless it has done so before."""
        done = folder / "done"
        if not done.is_file():
            make()
            done.touch()

    def workspace(self, name: str) -> Path:
        """A folder for a part."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

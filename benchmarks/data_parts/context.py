"""What every part of the data benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where to work, how large, and which data.

    ``quick`` is a smoke test: small data, few rounds, figures without meaning. ``full`` adds what takes a peer longer
    than all the rest.
    """

    folder: Path
    seed: int = 0
    quick: bool = False
    full: bool = False

    def pick(self, normal: int, quick: int) -> int:
        """A size or a number of rounds."""
        return quick if self.quick else normal

    def workspace(self, name: str) -> Path:
        """An empty folder for a part."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder

"""What every part of the serving benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 64
"""Clients of every load, each with one request on its way: 64 connections, on HTTP/2 with one stream each.

Many streams on few connections would save the servers system calls, and there is no HTTP/1.1 to compare that with.
"""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where to work, how long and how often.

    ``quick`` is a smoke test: short loads, one peer, a tiny model, figures without meaning.

    Attributes:
        seconds: length of a measured load.
        warm_up: length of the load before it, in which every answer is compared.
    """

    folder: Path
    rounds: int = 5
    seconds: float = 5.0
    warm_up: float = 2.0
    soak_seconds: float = 600.0
    quick: bool = False

    def workspace(self, name: str) -> Path:
        """A folder for a part."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

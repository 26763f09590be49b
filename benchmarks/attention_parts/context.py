"""What all parts of the attention benchmark are told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Context:
    """Settings of a run.

    Attributes:
        folder: where finished work is kept: a run that was interrupted goes on from there.
        rounds: turns of each contestant.
        seeds: trainings of each model.
        quick: small sizes, to see that everything runs.
    """

    folder: Path
    rounds: int
    seeds: int
    quick: bool

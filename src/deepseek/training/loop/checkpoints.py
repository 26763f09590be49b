"""Checkpoints on disk: complete or absent, found again, and as many as were asked for.

``checkpoint-N`` holds weights, optimiser, schedule, random states and the Trainer's state after step ``N``; it gets
its name when all of it is on the disk. ``best-N`` holds the weights of the best scored step.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from deepseek.artifacts.cache import sync_file

CHECKPOINT = "checkpoint"
BEST = "best"
STATE = "trainer_state.json"
PART = ".part"


@dataclass(frozen=True)
class Progress:
    """What the Trainer counts but does not save: the running sums behind the loss curve and the mean loss.

    Attributes:
        pending: sum of this process's losses since the last logged step.
        total: sum of the logged losses.
        logged: the last logged step.
        finished: nothing is left to train.
    """

    pending: float = 0.0
    total: float = 0.0
    logged: int = 0
    finished: bool = False

    def write(self, folder: Path, rank: int) -> None:
        (folder / f"progress-{rank}.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path, rank: int) -> Progress:
        path = folder / f"progress-{rank}.json"
        if not path.is_file():  # resumed with more processes: the sums of the first stand for all
            path = folder / "progress-0.json"
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def checkpoint_folder(home: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return home / f"{CHECKPOINT}-{step}"


def best_folder(home: Path, step: int) -> Path:
    """Where the weights of the best step are."""
    return home / f"{BEST}-{step}"


def checkpoints(home: Path) -> list[Path]:
    """The complete checkpoints in ``home``, oldest first."""
    return [path for path in _numbered(home, CHECKPOINT) if (path / STATE).is_file()]


def start_part(final: Path) -> Path:
    """An empty folder that :func:`finish_part` renames to ``final``."""
    part = final.with_name(final.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def finish_part(part: Path) -> Path:
    """Flush the folder to the disk and give it its name; an older one of the name is replaced."""
    final = part.with_name(part.name.removesuffix(PART))
    for path in part.rglob("*"):
        sync_file(path)
    sync_file(part)
    shutil.rmtree(final, ignore_errors=True)  # of the same step, of a run that was resumed before it
    part.rename(final)
    sync_file(final.parent)
    return final


def prune(home: Path, keep: int, best: int | None) -> None:
    """Delete all but the newest ``keep`` checkpoints, best weights other than those of step ``best``, and parts."""
    for path in checkpoints(home)[:-keep]:
        # a state without its weights would look like a checkpoint, so the state goes first
        (path / STATE).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
    prune_best(home, best)
    for path in home.glob(f"*{PART}"):
        shutil.rmtree(path, ignore_errors=True)


def prune_best(home: Path, best: int | None) -> None:
    """Delete best weights other than those of step ``best``."""
    for path in _numbered(home, BEST):
        if best is None or path != best_folder(home, best):
            shutil.rmtree(path, ignore_errors=True)


def _numbered(home: Path, prefix: str) -> list[Path]:
    found = [(re.fullmatch(rf"{prefix}-(\d+)", path.name), path) for path in home.glob(f"{prefix}-*")]
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]

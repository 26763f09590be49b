"""Converted copies in the cache folder: made once, found again by what they were made of and with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek import progress
from deepseek.artifacts.cache import cache_dir, staged_directory
from deepseek.bundles.versions import library_versions

if TYPE_CHECKING:
    from deepseek.inference.conversion.traced import Traced
    from deepseek.models.checkpoint import Checkpoint

ABOUT = "about.json"


def kept(
    tool: str,
    checkpoint: Checkpoint,
    form: str,
    *,
    libraries: tuple[str, ...],
    convert: Callable[[Checkpoint, str, Path], None],
) -> Path:
    """The folder of a checkpoint's copy for ``tool``, converted unless it is there.

    It is found again by the checkpoint's files (their sizes and times), the form, and the versions of ``libraries``.

    Args:
        form: what is made of the checkpoint: a head, or what else tells one copy from another; ``convert`` is given it.
        tool: a folder of the cache; ``convert`` writes the copy and :data:`ABOUT` into an empty one.

    Raises:
        ConfigError: what ``convert`` raises; nothing is kept then.
    """
    parts = [checkpoint.stamp(), form, library_versions(libraries)]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
    target = cache_dir() / tool / key
    if (target / ABOUT).is_file():
        return target
    with (
        progress.bar(f"convert {checkpoint.name} for {tool}", None, "model"),
        staged_directory(target, replace=True) as stage,
    ):
        convert(checkpoint, form, stage)
    return target


def write_about(model: Traced, folder: Path, **others: Any) -> None:
    """Say beside a copy what it takes and gives; ``others`` add to that, or say it anew."""
    about = {"inputs": list(model.example), "outputs": list(model.outputs), "context_length": model.context_length}
    (folder / ABOUT).write_text(json.dumps(about | others), encoding="utf-8")


def read_about(folder: Path) -> dict[str, Any]:
    """What stands beside a copy; of :func:`write_about`: ``inputs``, ``outputs``, ``context_length``."""
    found: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    return found

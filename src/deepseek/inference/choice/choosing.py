"""Measures the candidates and picks one; what was measured before for the same model and machine is taken as it is.

How it is measured and how judged: :mod:`~deepseek.inference.choice.contest`, :mod:`~deepseek.inference.choice.judging`.
Text generation has a contest of its own (:mod:`~deepseek.inference.choice.generating`). Not covered: several devices.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from deepseek.artifacts.cache import cache_dir
from deepseek.artifacts.keeping import keep_text
from deepseek.bundles.versions import library_versions
from deepseek.inference.choice import generating
from deepseek.inference.choice.candidates import candidates
from deepseek.inference.choice.contest import held
from deepseek.inference.choice.judging import TOLERANCE, judged
from deepseek.inference.choice.outcome import Choice
from deepseek.inference.hardware.devices import describe, find_device
from deepseek.inference.opening import opened

if TYPE_CHECKING:
    from deepseek.models.checkpoint import Checkpoint
    from deepseek.tasks.base import Task

LIBRARIES = ("torch", "transformers", "openvino", "onnxruntime", "deepseek")
"""Another version of one of them is measured anew."""


def choose(
    model: str | os.PathLike[str],
    *,
    task: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 32,
    rows: Sequence[Mapping[str, Any]] | None = None,
    refresh: bool = False,
) -> Choice:
    """The best runtime and precision for a model here.

    Args:
        model, task, device, batch_size: as :meth:`deepseek.inference.Predictor.load` takes them.
        dtype: ``"auto"`` lets the precision be chosen too.
        rows: rows with the task's inputs, to measure with, now; ``None``: made-up ones of two lengths, unless there
            is a kept measurement.
        refresh: measure now even if there is one.

    Raises:
        ConfigError: no runtime can load the model, or the device is not here.
        UnknownNameError, BundleError, FetchError, DataError: as loading and predicting.
    """
    from deepseek.models.loading import processor_for

    found = opened(model, task)
    processor = processor_for(found.checkpoint, type(found.task).processor)
    return choice_for(
        found.checkpoint, found.task, processor,
        device=device, dtype=dtype, batch_size=batch_size, rows=rows, refresh=refresh,
    )  # fmt: skip


def choice_for(
    checkpoint: Checkpoint,
    task: Task,
    processor: Any,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 32,
    rows: Sequence[Mapping[str, Any]] | None = None,
    refresh: bool = False,
) -> Choice:
    """As :func:`choose`, for what is open already."""
    head = type(task).head
    writes = head == "causal-lm"
    found = candidates(checkpoint, head, device, dtype)
    hardware = describe(find_device(device))
    parts = [
        checkpoint.stamp(), task.model_dump(mode="json"), hardware.model_dump(mode="json"), batch_size,
        [t.model_dump() for t in found], library_versions(LIBRARIES),
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(parts, default=repr).encode()).hexdigest()
    file = cache_dir() / "choices" / f"{key[:24]}.json"
    kept = None if refresh or rows else _kept(file, key)
    if kept is not None:
        return kept
    able = [trial for trial in found if not trial.verdict]
    if len(able) > 1:
        measured = (
            generating.held(checkpoint, able) if writes else held(checkpoint, task, processor, able, batch_size, rows)
        )
        done = {(t.runtime, t.dtype): t for t in measured}
        found = [done.get((t.runtime, t.dtype), t) for t in found]
    choice = Choice(
        key=key,
        model=checkpoint.name,
        task=type(task).name,
        hardware=hardware,
        batches=tuple(dict.fromkeys(b for t in found for b in t.seconds)),
        trials=tuple(judged(found, generating.TOLERANCE if writes else TOLERANCE)),
        measured=datetime.now(UTC),
    )
    keep_text(file, choice.model_dump_json(indent=2) + "\n", "the choice")
    return choice


def _kept(file: Path, key: str) -> Choice | None:
    try:
        found = Choice.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.key == key else None

"""The batches that candidates run: what a task gives its model for the user's rows, or for made-up ones."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.recording import Batch, Recorder

if TYPE_CHECKING:
    from deepseek.tasks.base import Executable, Task

LENGTHS = (32, 128)
"""Tokens of made-up texts: a sentence and a paragraph."""
SIDE = 64
"""Pixels of a made-up picture's side; an image processor brings it to the model's size."""


def batches(
    task: Task, processor: Any, model: Executable, batch_size: int, rows: Sequence[Mapping[str, Any]] | None
) -> dict[str, Batch]:
    """Batches by what they are, e.g. ``"32 x 128"`` (rows, tokens): one row and ``batch_size`` rows of each length.

    Args:
        processor: the task's tokenizer or image processor.
        model: answers while the batches are made.
        rows: rows with the task's inputs, of which those of middle length are taken. ``None``: made-up ones, of
            :data:`LENGTHS` tokens where the task has texts.

    Raises:
        DataError: a row lacks an input.
    """
    chosen: list[list[dict[str, Any]]] = []
    if rows:
        features = sorted(task.prepare(rows, processor), key=task.length)
        middle = len(features) // 2
        start = max(0, min(middle - batch_size // 2, len(features) - batch_size))
        chosen = [features[middle : middle + 1], features[start : start + batch_size]]
    else:
        limit = getattr(task, "max_length", None)
        for length in [None] if limit is None else sorted({min(length, limit) for length in LENGTHS}):
            changed = task if length is None else task.model_copy(update={"max_length": length})
            feature = changed.prepare([made_up(task, processor, length or 0)], processor)
            chosen += [feature, feature * batch_size]
    made: dict[str, Batch] = {}
    for features in chosen:
        recorder = Recorder(model)
        task.run(recorder, features, processor, {})
        if not recorder.batches:
            raise ConfigError(f"the task {type(task).name!r} generates; only single passes can be timed")
        batch = recorder.batches[0]
        ids = batch.get("input_ids")
        name = f"{len(features)} rows" if ids is None else f"{len(features)} x {ids.shape[1]}"
        made[name] = batch
    return made


def made_up(task: Task, processor: Any, tokens: int) -> dict[str, Any]:
    """A row with the task's inputs: texts of about ``tokens`` random tokens together, a picture of noise."""
    drawn = random.Random(0)  # noqa: S311 - no secret: a choice is to come out the same each time
    inputs = task.signature.inputs
    row: dict[str, Any] = {}
    for field in inputs:
        if field.dtype == "bytes":
            from PIL import Image

            file = io.BytesIO()
            Image.frombytes("RGB", (SIDE, SIDE), drawn.randbytes(3 * SIDE * SIDE)).save(file, "PNG")
            row[field.name] = file.getvalue()
            continue
        special = set(processor.all_special_ids)
        ids = [i for i in (drawn.randrange(len(processor)) for _ in range(4 * tokens)) if i not in special]
        text = processor.decode(ids[: -(-tokens // len(inputs))]).strip() or "a"
        # a task that fills masks refuses a text without one
        row[field.name] = f"{processor.mask_token} {text}" if task.head == "masked-lm" else text
    return row

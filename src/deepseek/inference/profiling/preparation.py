"""What is done outside of the model: rows to padded tensors, and how much of those is padding."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.inference.choice.batches import made_up
from deepseek.inference.profiling.outcome import Outside
from deepseek.tasks.base import Task

REPEATS = 5


def outside_of(
    task: Task, processor: Any, rows: Sequence[Mapping[str, Any]] | None, batch_size: int, tokens: int
) -> Outside:
    """Prepare rows as :class:`deepseek.inference.Predictor` does, sorted by length, and time it.

    Args:
        rows: the user's; ``None``: ``batch_size`` made-up ones of about ``tokens`` tokens.
        batch_size: rows of a batch.

    Raises:
        DataError: a row lacks an input.
    """
    given = rows or [made_up(task, processor, tokens)] * batch_size
    took, padded, all_tokens = [], 0, 0
    for _ in range(REPEATS):
        started = time.perf_counter()
        features = sorted(task.prepare(given, processor), key=task.length, reverse=True)
        starts = range(0, len(features), batch_size)
        batches = [task.collate(features[start : start + batch_size], processor) for start in starts]
        took.append(time.perf_counter() - started)
    masks = [batch["attention_mask"] for batch in batches if "attention_mask" in batch]
    all_tokens = sum(mask.numel() for mask in masks)
    padded = sum(int((mask == 0).sum()) for mask in masks)
    count = min(batch_size, len(given))
    padding = padded / all_tokens if rows and all_tokens else None
    return Outside(count, statistics.median(took) * count / len(given), padding)

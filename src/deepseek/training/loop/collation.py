"""Features to batches, the same for the same rows whenever they are collated."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.tasks.base import Task

ROW = "row"
"""The key of a batch's row indices, int64, shape (batch,)."""


def collator(
    task: Task, tokenizer: Any, *, seed: int, epoch: Callable[[], int]
) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]:
    """The task's training collation as the Trainer takes it, with ``row`` beside the task's tensors.

    What a task draws while it collates (masked tokens, say) comes from a state of its own, given by the seed, the
    epoch and the rows: collating ahead, or skipping batches when a run is resumed, changes nothing.
    """
    import torch

    def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        rows = [int(item[ROW]) for item in items]
        features = [{k: v for k, v in item.items() if k != ROW} for item in items]
        drawn = zlib.crc32(repr((seed, epoch(), rows)).encode())
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(drawn)
            batch = task.collate_training(features, tokenizer)
        return {**batch, ROW: torch.tensor(rows)}

    return collate

"""What a task gives its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Executable, Generated

Batch = Mapping[str, "torch.Tensor"]


class Recorder:
    """An executable that keeps the batches that pass through it."""

    def __init__(self, model: Executable) -> None:
        self._model = model
        self.batches: list[Batch] = []

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.batches.append(dict(batch))
        return self._model.forward(batch)

    def generate(self, batch: Batch, options: Mapping[str, Any]) -> list[Generated]:
        return self._model.generate(batch, options)

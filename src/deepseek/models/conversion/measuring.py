"""Which texts closeness is measured on: of several lengths, kept apart from fitting, the same before and after it."""

from __future__ import annotations

from torch import Tensor

from deepseek import progress
from deepseek.models.conversion.closeness import Closeness, LongText, compare, compare_long
from deepseek.models.conversion.source import Source
from deepseek.models.conversion.texts import TextPool
from deepseek.models.deepseek_base import DeepSeekBaseModel, DeepSeekBasePreTrainedModel

TOKENS = 4_096
"""Tokens of each length, at most."""
SHORTER = (16, 4, 2, 1)
LONGER = (2, 8)
"""Lengths, as parts and as multiples of the longest text that the checkpoint can read."""
PARTS = 4
"""A long text's parts for the checkpoint are of the longest's fraction: most are trained on shorter texts."""


class Measuring:
    """Compares models with one checkpoint."""

    def __init__(self, source: Source, pool: TextPool, mask_token: int | None, seed: int) -> None:
        self._source, self._pool, self._seed = source, pool, seed
        self._mask_token = mask_token if source.head == "masked-lm" else None
        self._longest = len(source.positions)
        self._windows = [self._some(self._longest // part) for part in SHORTER]

    def closeness(self, model: DeepSeekBasePreTrainedModel, description: str) -> tuple[Closeness, ...]:
        """For each length, shortest first."""
        return tuple(
            compare(self._source.model, model, windows, mask_token=self._mask_token, seed=self._seed)
            for windows in progress.track(self._windows, description, len(self._windows), "lengths")
        )

    def long(self, model: DeepSeekBaseModel) -> tuple[LongText, ...]:
        """Beyond the checkpoint's longest text, as far as the texts reach."""
        found = []
        for times in progress.track(LONGER, "run long texts", len(LONGER), "lengths"):
            windows = self._some(self._longest * times)
            if len(windows):
                part = self._longest // PARTS
                found.append(compare_long(self._source.backbone, model, windows, self._pool.parts(windows, part)))
        return tuple(found)

    def _some(self, length: int) -> Tensor:
        return self._pool.windows(self._pool.held_out, length, max(2, TOKENS // length), self._seed)

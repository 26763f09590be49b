"""Keys and values of a text that is being continued, with the summaries of its blocks.

It is transformers' dynamic cache, whose layers also keep what the gate searches in, so that a new token does not read
all keys again. Whatever reorders, repeats or shortens the cache (beam search, assisted decoding) does so through
transformers' methods; the summaries follow, or are made anew when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from deepseek.errors import ConfigError
from deepseek.models.attention.pooling import Level

Pool = Callable[[Tensor, Tensor | None], Level]


class GatedCacheLayer(DynamicLayer):
    """One layer's keys, values and the summaries of its whole blocks: of all texts at once or, where padding stands
    before them, of each from its first token on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._of_all: Level | None = None
        self._of_text: dict[int, Level] = {}

    def summaries(self, pool: Pool, mask_BL: Tensor | None, width: int) -> Level:
        """The summaries of all texts' blocks, the last perhaps of a part of one; only what is new is pooled.

        Args:
            pool: keys and their mask to summaries.
            mask_BL: which of all keys are tokens.
        """
        assert self.keys is not None
        leaves, self._of_all = _grown(self._of_all, self.keys, pool, mask_BL, width)
        return leaves

    def summaries_of(self, text: int, first: int, pool: Pool, mask_1L: Tensor | None, width: int) -> Level:
        """The same of one text, whose blocks begin at its first token; ``mask_1L`` too."""
        assert self.keys is not None
        keys = self.keys[text : text + 1, :, first:]
        leaves, self._of_text[text] = _grown(self._of_text.get(text), keys, pool, mask_1L, width)
        return leaves

    def _forget(self) -> None:
        self._of_all, self._of_text = None, {}

    def reset(self) -> None:
        self._forget()
        super().reset()

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            self._forget()
        super().crop(tokens_to_remove)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._forget()
        super().batch_repeat_interleave(repeats)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._forget()
        super().batch_select_indices(indices)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        super().reorder_cache(beam_idx)
        leaves, of_text = self._of_all, self._of_text
        if leaves is not None:
            where = beam_idx.to(leaves.keys.device)
            self._of_all = Level(leaves.keys.index_select(0, where), leaves.mass.index_select(0, where), 1)
        if of_text:
            self._of_text = {new: of_text[old] for new, old in enumerate(beam_idx.tolist()) if old in of_text}


def _grown(known: Level | None, keys: Tensor, pool: Pool, mask: Tensor | None, width: int) -> tuple[Level, Level]:
    """Summaries of all blocks, and of those that are complete."""
    start = 0 if known is None else known.mass.shape[-1] * width
    leaves = pool(keys[:, :, start:], None if mask is None else mask[:, start:])
    if known is not None:
        leaves = Level(torch.cat([known.keys, leaves.keys], 2), torch.cat([known.mass, leaves.mass], 2), 1)
    complete = keys.shape[2] // width
    return leaves, Level(leaves.keys[:, :, :complete], leaves.mass[:, :, :complete], 1)


def gated_cache(cache: Cache | None, layers: int) -> Cache:
    """The cache with gated layers, in place; a new one if there is none.

    Raises:
        ConfigError: it is no dynamic cache, or has been filled by another model.
    """
    cache = DynamicCache() if cache is None else cache
    if not isinstance(cache, DynamicCache):
        raise ConfigError(f"DeepSeek-Base decodes with a DynamicCache, received {type(cache).__name__}; leave that out")
    for index in range(layers):
        if index < len(cache.layers) and isinstance(cache.layers[index], GatedCacheLayer):
            continue
        if index < len(cache.layers) and cache.layers[index].get_seq_length():
            raise ConfigError(f"layer {index} of the cache was filled by another model; start with an empty cache")
        cache.layers[index : index + 1] = [GatedCacheLayer()]
    return cache

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


class GatedCacheLayer(DynamicLayer):
    """One layer's keys, values and the summaries of its whole blocks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._leaves: Level | None = None

    def summaries(self, pool: Callable[[Tensor, Tensor | None], Level], mask_BL: Tensor | None, width: int) -> Level:
        """The summaries of all blocks, the last perhaps of a part of one; only what is new is pooled.

        Args:
            pool: keys and their mask to summaries.
            mask_BL: which of all keys are tokens.
        """
        assert self.keys is not None
        whole = 0 if self._leaves is None else self._leaves.mass.shape[-1]
        start = whole * width
        rest = None if mask_BL is None else mask_BL[:, start:]
        fresh = pool(self.keys[:, :, start:], rest)
        leaves = fresh
        if self._leaves is not None:
            leaves = Level(
                torch.cat([self._leaves.keys, fresh.keys], 2), torch.cat([self._leaves.mass, fresh.mass], 2), 1
            )
        complete = self.keys.shape[2] // width
        self._leaves = Level(leaves.keys[:, :, :complete], leaves.mass[:, :, :complete], 1)
        return leaves

    def reset(self) -> None:
        self._leaves = None
        super().reset()

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            self._leaves = None
        super().crop(tokens_to_remove)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._leaves = None
        super().batch_repeat_interleave(repeats)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._leaves = None
        super().batch_select_indices(indices)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        leaves = self._leaves
        super().reorder_cache(beam_idx)
        if leaves is not None:
            where = beam_idx.to(leaves.keys.device)
            self._leaves = Level(leaves.keys.index_select(0, where), leaves.mass.index_select(0, where), 1)


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

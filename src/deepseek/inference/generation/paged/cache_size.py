"""How much memory a cache may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.errors import ConfigError
from deepseek.inference.generation.core import CoreSettings
from deepseek.inference.generation.paged.blocks import BLOCK, blocks_for
from deepseek.memory import free_memory

if TYPE_CHECKING:
    import torch

_SHARE = {"cuda": 0.85, "cpu": 0.5, "mps": 0.5}
"""Of the memory that is free once the weights are there, what the cache may take; the rest is for computing, and on
other devices than a GPU of our own for other programs."""


def cache_blocks(settings: CoreSettings, context: int | None, token_bytes: int, device: torch.device) -> int:
    """How many blocks the cache has.

    Args:
        context: of the model, in tokens; ``None``: not known.
        token_bytes: that one token takes in all caches.

    Raises:
        ConfigError: memory has no room for the smallest cache.
    """
    if settings.cache_tokens is not None:
        return settings.cache_tokens // BLOCK
    room = int(free_memory(str(device)) * _SHARE.get(device.type, 0.5)) // (BLOCK * token_bytes)
    if room < 2:
        raise ConfigError(
            f"no room for a key-value cache on {device}: a block of {BLOCK} tokens takes {BLOCK * token_bytes:,} bytes"
            "; free memory, or take a smaller model or 'dtype'"
        )
    return room if context is None else min(room, settings.max_sequences * blocks_for(context))

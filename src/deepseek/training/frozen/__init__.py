"""What a frozen trunk saves: no dropout, narrow weights, and the states of its lower layers computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.training.frozen.cache import FrozenCache, cache_bytes
    from deepseek.training.frozen.trunk import Trunk, prepare_trunk

_PUBLIC = {
    "FrozenCache": "deepseek.training.frozen.cache",
    "Trunk": "deepseek.training.frozen.trunk",
    "cache_bytes": "deepseek.training.frozen.cache",
    "prepare_trunk": "deepseek.training.frozen.trunk",
}

__all__ = ["FrozenCache", "Trunk", "cache_bytes", "prepare_trunk"]


__getattr__ = names_of(__name__, _PUBLIC)

"""What a frozen trunk saves: no dropout, narrow weights, and the states of its lower layers computed once."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Layer 4 · service: REST and gRPC at once, over one batcher a model.

Importing this package imports nothing heavy; the public names load on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepseek.serving.batching.batcher import MicroBatcher
    from deepseek.serving.config import ServingConfig
    from deepseek.serving.facade import DeepSeekInference
    from deepseek.serving.models.repository import ModelRepository
    from deepseek.serving.server import Server

__all__ = ["DeepSeekInference", "MicroBatcher", "ModelRepository", "Server", "ServingConfig"]

_HOMES = {
    "DeepSeekInference": "deepseek.serving.facade",
    "MicroBatcher": "deepseek.serving.batching.batcher",
    "ModelRepository": "deepseek.serving.models.repository",
    "Server": "deepseek.serving.server",
    "ServingConfig": "deepseek.serving.config",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

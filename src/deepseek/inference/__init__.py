"""Layer 3: a bundle or checkpoint in, answers out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepseek.plugins.registry import Registry

if TYPE_CHECKING:
    from deepseek.inference.evaluation import evaluate
    from deepseek.inference.predictor import Predictor
    from deepseek.inference.runtime import Runtime

RUNTIMES: Registry[type[Runtime]] = Registry(
    "runtime", shipped={"torch": "deepseek.inference.torch_runtime:TorchRuntime"}
)
"""Runtimes by name. A new runtime is one new file and one line here."""

_PUBLIC = {
    "Predictor": "deepseek.inference.predictor",
    "Runtime": "deepseek.inference.runtime",
    "evaluate": "deepseek.inference.evaluation",
}

__all__ = ["RUNTIMES", "Predictor", "Runtime", "evaluate"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Text generation for many requests at once: engines over interchangeable cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of
from deepseek.plugins.registry import Registry

if TYPE_CHECKING:
    from deepseek.inference.generation.core import CoreSettings, GenerationCore, Step, TokenLogprobs
    from deepseek.inference.generation.engine import Completion, GenerationEngine, Piece, Stream
    from deepseek.inference.generation.sampling import Grammar, SamplingParameters

CORES: Registry[type[GenerationCore]] = Registry(
    "generation core",
    shipped={
        "openvino": "deepseek.inference.generation.openvino.core:OpenVinoCore",
        "torch": "deepseek.inference.generation.torch.core:TorchCore",
        "vllm": "deepseek.inference.generation.vllm.core:VllmCore",
    },
)
"""Generation cores by name. A new core is one new folder and one line here."""

_PUBLIC = {
    "Completion": "deepseek.inference.generation.engine",
    "CoreSettings": "deepseek.inference.generation.core",
    "GenerationCore": "deepseek.inference.generation.core",
    "GenerationEngine": "deepseek.inference.generation.engine",
    "Grammar": "deepseek.inference.generation.sampling",
    "Piece": "deepseek.inference.generation.engine",
    "SamplingParameters": "deepseek.inference.generation.sampling",
    "Step": "deepseek.inference.generation.core",
    "Stream": "deepseek.inference.generation.engine",
    "TokenLogprobs": "deepseek.inference.generation.core",
}

__all__ = [
    "CORES",
    "Completion",
    "CoreSettings",
    "GenerationCore",
    "GenerationEngine",
    "Grammar",
    "Piece",
    "SamplingParameters",
    "Step",
    "Stream",
    "TokenLogprobs",
]


__getattr__ = names_of(__name__, _PUBLIC)

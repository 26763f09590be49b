"""Layer 3: a bundle or checkpoint in, answers out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of
from deepseek.plugins.registry import Registry

if TYPE_CHECKING:
    from deepseek.inference.evaluation import evaluate
    from deepseek.inference.predictor import Predictor
    from deepseek.inference.profiling.profiling import profile
    from deepseek.inference.quantizing import Quantized, quantize
    from deepseek.inference.runtime import Runtime

RUNTIMES: Registry[type[Runtime]] = Registry(
    "runtime",
    shipped={
        "torch": "deepseek.inference.torch_runtime:TorchRuntime",
        "torch-compile": "deepseek.inference.torch_compile_runtime:TorchCompileRuntime",
        "openvino": "deepseek.inference.openvino.runtime:OpenVinoRuntime",
        "native": "deepseek.inference.native.runtime:NativeRuntime",
        "onnxruntime": "deepseek.inference.onnx.runtime:OnnxRuntime",
    },
)
"""Runtimes by name. A new runtime is one new file and one line here."""

_PUBLIC = {
    "Predictor": "deepseek.inference.predictor",
    "Quantized": "deepseek.inference.quantizing",
    "Runtime": "deepseek.inference.runtime",
    "evaluate": "deepseek.inference.evaluation",
    "profile": "deepseek.inference.profiling.profiling",
    "quantize": "deepseek.inference.quantizing",
}

__all__ = ["RUNTIMES", "Predictor", "Quantized", "Runtime", "evaluate", "profile", "quantize"]


__getattr__ = names_of(__name__, _PUBLIC)

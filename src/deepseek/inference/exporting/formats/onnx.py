"""ONNX: ``model.onnx``, the name that Optimum looks for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

from deepseek.errors import MissingExtraError
from deepseek.inference.conversion.traced import refuse_untrained, traced
from deepseek.inference.exporting.format import ExportFormat, Source
from deepseek.inference.onnx.conversion import MODEL, write_model
from deepseek.inference.onnx.library import missing
from deepseek.inference.onnx.runtime import OnnxModel, session


class Onnx(ExportFormat):
    """Weights and activations in float32 or float16, or int8 with ranges of activations found in each pass."""

    name: ClassVar[str] = "onnx"
    heads: ClassVar[tuple[str, ...]] = (
        "none", "sequence-classification", "token-classification", "masked-lm", "image-classification",
    )  # fmt: skip
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "int8")

    def check(self, source: Source, dtype: str) -> None:
        if absent := missing():
            raise MissingExtraError(
                f"this needs the optional libraries {', '.join(absent)}; install them with: "
                "pip install 'deepseek[onnx]'"
            )

    def write(self, source: Source, dtype: str, folder: Path) -> None:
        model = traced(source.checkpoint, source.head, dtype="float16" if dtype == "float16" else "float32")
        refuse_untrained(source.checkpoint, model.model)
        if dtype != "int8":
            write_model(model, source.name, folder / MODEL)
            return
        from deepseek.inference.onnx.quantization import quantize_file

        with tempfile.TemporaryDirectory(prefix=".float32-", dir=folder.parent) as scratch:
            write_model(model, source.name, Path(scratch) / MODEL)
            quantize_file(Path(scratch) / MODEL, folder / MODEL)

    def open(self, folder: Path) -> OnnxModel:
        made = session(folder / MODEL, device="cpu")
        about = {
            "inputs": [each.name for each in made.get_inputs()],
            "outputs": [each.name for each in made.get_outputs()],
            "context_length": None,
        }
        return OnnxModel(made, about)

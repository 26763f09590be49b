"""An exported program of PyTorch: ``model.pt2``, which ``torch.export.load`` opens without transformers.

``torch.export.load("model.pt2").module()`` takes the inputs by name and returns a mapping of the outputs. Batch and
sequence dimensions are open. A language model gives the logits of whole sequences, without a cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deepseek.errors import ConfigError
from deepseek.inference.conversion.feeding import arrays
from deepseek.inference.conversion.program import program_of
from deepseek.inference.conversion.traced import refuse_untrained, traced
from deepseek.inference.exporting.format import ExportFormat, Source

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Generated

MODEL = "model.pt2"


class TorchExport(ExportFormat):
    """Weights and activations in one of torch's precisions."""

    name: ClassVar[str] = "torch-export"
    heads: ClassVar[tuple[str, ...]] = (
        "none", "sequence-classification", "token-classification", "masked-lm", "causal-lm", "image-classification",
    )  # fmt: skip
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "bfloat16", "float16")

    def write(self, source: Source, dtype: str, folder: Path) -> None:
        import torch

        model = traced(source.checkpoint, source.head, dtype=dtype)
        refuse_untrained(source.checkpoint, model.model)
        torch.export.save(program_of(model, source.name, "torch.export"), folder / MODEL)

    def open(self, folder: Path) -> ExportedModel:
        import torch

        return ExportedModel(torch.export.load(folder / MODEL))


class ExportedModel:
    """An exported program as an executable."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self._module = program.module()
        self._example: dict[str, torch.Tensor] = program.example_inputs[1]

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        import torch

        given = arrays(batch, tuple(self._example))
        tensors = {name: torch.from_numpy(given[name]).to(like.dtype) for name, like in self._example.items()}
        with torch.inference_mode():
            return {name: value.float() for name, value in self._module(**tensors).items()}

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        raise ConfigError("an exported program does not generate text; the runtime 'torch' does")

"""ExecuTorch: ``model.pte``, a program for phones and other small devices, with XNNPACK's kernels for their CPUs.

Memory is planned when the file is written, so there is a largest batch: :data:`ROWS` rows of as many tokens as the
model takes, at most :data:`TOKENS`. A program has its inputs and outputs by place only; ``about.json`` beside it has
their names in that order, and the largest batch. Not covered: language models (ExecuTorch wants models with a cache of
its own) and 8-bit weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from deepseek.errors import require
from deepseek.inference.conversion.keeping import read_about, write_about
from deepseek.inference.conversion.program import program_of
from deepseek.inference.conversion.traced import refuse_untrained, traced
from deepseek.inference.executorch.conversion import lowered
from deepseek.inference.executorch.model import MODEL, ExecuTorchModel, largest
from deepseek.inference.exporting.format import ExportFormat, Source

ROWS = 8
"""Rows of the largest batch."""
TOKENS = 512
"""Most tokens of a row, if the model takes as many: memory is planned for the square of them in each head and row."""


class ExecuTorch(ExportFormat):
    """Weights and activations in float32 or float16."""

    name: ClassVar[str] = "executorch"
    heads: ClassVar[tuple[str, ...]] = (
        "none", "sequence-classification", "token-classification", "masked-lm", "image-classification",
    )  # fmt: skip
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16")

    def check(self, source: Source, dtype: str) -> None:
        require("executorch", "executorch")

    def write(self, source: Source, dtype: str, folder: Path) -> None:
        model = traced(source.checkpoint, source.head, dtype=dtype)
        refuse_untrained(source.checkpoint, model.model)
        # its single steps are XNNPACK's; the fused attention is taken apart into more, which are not
        model.model.set_attn_implementation("eager")
        tokens = min(TOKENS, model.context_length or TOKENS, getattr(source.processor, "model_max_length", TOKENS))
        program = program_of(model, source.name, "ExecuTorch", (ROWS, tokens))
        made = lowered(program, f"{source.name!r} ({type(model.model).__name__})")
        made.save(str(folder / MODEL))
        write_about(
            model,
            folder,
            dtype=dtype,
            rows=ROWS,
            context_length=None if "pixel_values" in model.example else tokens,
            memory_bytes=sum(made.executorch_program.execution_plan[0].non_const_buffer_sizes),
        )

    def open(self, folder: Path) -> ExecuTorchModel:
        return ExecuTorchModel(folder)

    def notes(self, source: Source, folder: Path) -> tuple[str, ...]:
        about = read_about(folder)
        return (f"takes up to {largest(about)}; plans {about['memory_bytes'] / 1e6:,.1f} MB of memory for that",)

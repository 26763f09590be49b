"""A program in a folder as an executable: batches by name, up to the one that its memory was planned for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.conversion.feeding import arrays
from deepseek.inference.conversion.keeping import read_about

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Generated

MODEL = "model.pte"


def largest(about: Mapping[str, Any]) -> str:
    """The largest batch that a program takes, in words."""
    tokens = about["context_length"]
    return f"{about['rows']} rows" + (f" of up to {tokens} tokens" if tokens else "")


class ExecuTorchModel:
    """ExecuTorch's own Python runtime on the CPU."""

    def __init__(self, folder: Path) -> None:
        from executorch.runtime import Runtime

        self._about = read_about(folder)
        self._program = Runtime.get().load_program(folder / MODEL)
        self._method = self._program.load_method("forward")

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        import torch

        named = arrays(batch, self._about["inputs"])
        tensors = [torch.from_numpy(named[each]) for each in self._about["inputs"]]
        rows, tokens = tensors[0].shape[:2]
        if rows > self._about["rows"] or tokens > (self._about["context_length"] or tokens):
            raise ConfigError(
                f"the exported program takes up to {largest(self._about)}, received {tuple(tensors[0].shape)}"
            )
        floating = getattr(torch, self._about["dtype"])
        given = [each.to(floating) if each.is_floating_point() else each for each in tensors]
        try:
            found = self._method.execute(given)
        except RuntimeError as error:  # a kernel that refuses its arguments, of which it tells on standard error
            raise ConfigError(
                f"ExecuTorch cannot run the exported program on {tuple(tensors[0].shape)}: {error}. The format "
                "torch-export and the runtime 'torch' run every model"
            ) from error
        return {name: value.float() for name, value in zip(self._about["outputs"], found, strict=True)}

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        raise ConfigError("an exported program does not generate text; the runtime 'torch' does")

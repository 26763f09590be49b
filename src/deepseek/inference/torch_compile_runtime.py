"""PyTorch with its compiler: the same models, fused into kernels of their own (TorchInductor, PyTorch 2, ASPLOS 2024).

Lengths and numbers of rows stay open, so one compilation serves all batches; it happens with the first one and takes up
to a minute. On a CPU it needs a C++ compiler, on a GPU Triton, which PyTorch's builds for GPUs bring.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from deepseek.errors import ConfigError
from deepseek.inference.runtime import Availability
from deepseek.inference.torch_runtime import TorchModel, TorchRuntime
from deepseek.models.checkpoint import Checkpoint
from deepseek.tasks import running

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Generated


class TorchCompileRuntime(TorchRuntime):
    """Compiled PyTorch, for encoders and classifiers."""

    name: ClassVar[str] = "torch-compile"

    @classmethod
    def available(cls) -> Availability:
        here = TorchRuntime.available()
        able = [device for device in here.devices if _reason(device) is None]
        if not able:
            return Availability(False, (), str(_reason("cpu")))
        return Availability(True, tuple(able), here.detail)

    @classmethod
    def precisions(cls, checkpoint: Checkpoint, head: str, device: str) -> tuple[str, ...]:
        if head == "causal-lm":
            return ()
        return TorchRuntime.precisions(checkpoint, head, device)

    def load(self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto") -> CompiledModel:
        if head == "causal-lm":
            raise ConfigError(f"the runtime {self.name!r} does not generate text; use 'torch'")
        plain = super().load(checkpoint, head, device=device, dtype=dtype).model
        reason = _reason(plain.device.type)
        if reason is not None:
            raise ConfigError(f"the runtime {self.name!r} cannot compile here: {reason}")
        return CompiledModel(plain)


def _reason(device: str) -> str | None:
    """Why nothing can be compiled for a device; ``None``: it can."""
    if device.startswith("cuda"):
        return None if find_spec("triton") else "Triton is not installed; PyTorch's builds for GPUs bring it"
    if device == "cpu":
        compiler = os.environ.get("CXX") or "g++"
        found = shutil.which(compiler) or shutil.which("clang++")
        return None if found else f"no C++ compiler ({compiler}); install one, or name it in the variable CXX"
    return f"not on {device}"


class CompiledModel(TorchModel):
    """A compiled transformers model as an executable."""

    def __init__(self, model: Any) -> None:
        import torch

        super().__init__(model)
        self._compiled: Any = torch.compile(model, dynamic=True)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        import torch
        from torch._inductor import config

        # weights are constants of the compiled code, packed for it once; only where no gradient is recorded
        with torch.no_grad(), config.patch(freezing=self.model.device.type == "cpu"):
            return running.forward(self._compiled, batch)

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        raise ConfigError("the runtime 'torch-compile' does not generate text; use 'torch'")

"""PyTorch as a runtime: every transformers checkpoint, on CPU, CUDA, ROCm (which PyTorch calls cuda) and MPS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.hardware.processor import processor_features
from deepseek.inference.runtime import Availability, Runtime
from deepseek.models.checkpoint import Checkpoint
from deepseek.tasks import running
from deepseek.tasks.base import Generated

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

DTYPES = ("auto", "float32", "bfloat16", "float16")


class TorchRuntime(Runtime):
    """Eager PyTorch."""

    name: ClassVar[str] = "torch"

    @classmethod
    def available(cls) -> Availability:
        import torch

        names = ["cpu"]
        details = [f"CPU, {torch.get_num_threads()} threads"]
        if torch.cuda.is_available():
            kind = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
            for i in range(torch.cuda.device_count()):
                names.append(f"cuda:{i}")
                details.append(f"{torch.cuda.get_device_name(i)} ({kind})")
        if torch.backends.mps.is_available():
            names.append("mps")
            details.append("Apple GPU")
        return Availability(True, tuple(names), f"PyTorch {torch.__version__}: {'; '.join(details)}")

    @classmethod
    def precisions(cls, checkpoint: Checkpoint, head: str, device: str) -> tuple[str, ...]:
        if head == "causal-lm":  # its speed is of two kinds, which one forward pass does not show
            return ("auto",)
        if pick_device(device) != "cpu":
            return ("float32", "bfloat16", "float16")
        return ("float32", "bfloat16") if {"bfloat16", "AMX"} & set(processor_features()) else ("float32",)

    def load(self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto") -> TorchModel:
        import torch

        from deepseek.models.loading import from_pretrained

        chosen = pick_device(device)
        if dtype not in DTYPES:
            raise UnknownNameError("dtype", dtype, DTYPES)
        # bf16 halves the memory and is what GPUs are fastest at; on a CPU it is not always faster, and less exact
        kind = getattr(torch, dtype) if dtype != "auto" else (torch.float32 if chosen == "cpu" else torch.bfloat16)
        model = from_pretrained(checkpoint, head=head, dtype=kind)
        return TorchModel(model.to(chosen).eval())


def pick_device(device: str) -> str:
    """``"auto"`` to the best device here; anything else is checked.

    Raises:
        ConfigError: the device is not here; the message lists those that are.
    """
    devices = TorchRuntime.available().devices
    if device == "auto":
        return devices[1] if len(devices) > 1 else "cpu"
    if device in devices or (device == "cuda" and "cuda:0" in devices):
        return device
    raise ConfigError(f"device {device!r} is not available; expected one of: auto, {', '.join(devices)}")


class TorchModel:
    """A transformers model as an executable."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @property
    def context_length(self) -> int | None:
        """Longest sequence that the model's positions cover, if its config says so."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        import torch

        with torch.inference_mode():
            return running.forward(self.model, batch)

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        import torch

        chosen = dict(options)
        seed = chosen.pop("seed", None)
        devices = [] if self.model.device.type != "cuda" else [self.model.device]
        # a fork keeps one request's seed from changing what other code draws
        with torch.inference_mode(), torch.random.fork_rng(devices=devices, enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return running.generate(self.model, batch, chosen)

"""The generation core in plain PyTorch: any device that PyTorch has, any standard transformers language model, and
DeepSeek-Base on caches of its own.

Not covered, and refused at load: encoder-decoders, sliding windows, layers with a state other than keys and values.
A DeepSeek model's latent attention runs on expanded keys and values, which take more room than the latents would.
"""

from __future__ import annotations

from typing import ClassVar

from deepseek.inference.generation.core import CoreSettings
from deepseek.inference.generation.ending import end_tokens
from deepseek.inference.generation.paged.core import PagedCore, loaded
from deepseek.inference.runtime import Availability
from deepseek.models.checkpoint import Checkpoint


class TorchCore(PagedCore):
    """Continues sequences with PyTorch; several LoRA adapters may be in one batch."""

    name: ClassVar[str] = "torch"

    @classmethod
    def available(cls) -> Availability:
        from deepseek.inference.torch_runtime import TorchRuntime

        return TorchRuntime.available()

    @classmethod
    def precisions(cls, checkpoint: Checkpoint, device: str) -> tuple[str, ...]:
        from deepseek.inference.torch_runtime import TorchRuntime

        return TorchRuntime.precisions(checkpoint, "none", device)

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, *, device: str = "auto", dtype: str = "auto", settings: CoreSettings
    ) -> TorchCore:
        from deepseek.inference.generation.torch import loading
        from deepseek.inference.hardware.devices import find_device

        place = find_device(device)
        precision = loading.pick_dtype(dtype, place)
        model, names = loading.load_model(checkpoint, place, precision, settings.adapters)
        draft = None
        if settings.draft is not None:
            draft, _ = loading.load_model(settings.draft, place, precision)
        ends = end_tokens(model.model)
        return cls(loaded(model, checkpoint, settings, draft=draft, ends=ends, adapters=names), settings)

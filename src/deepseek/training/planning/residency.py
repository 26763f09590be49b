"""Which of a loaded model's weights are in memory now."""

from __future__ import annotations

from typing import Any

from deepseek.models.mapped_weights import mappings


def on_meta(tensor: Any) -> Any:
    """An empty tensor like this one on the meta device."""
    import torch

    return torch.empty_like(tensor, device="meta")


def resident_weights(model: Any) -> int:
    """Bytes of a loaded model that are in memory now: pages of a mapped file that nobody read are not."""
    if model is None:
        return 0
    files = mappings()
    tensors = {t.data_ptr(): t for t in [*model.parameters(), *model.buffers()] if t.device.type == "cpu"}
    inside = [t for at, t in tensors.items() if any(file.start <= at < file.end for file in files)]
    mapped = sum(t.numel() * t.element_size() for t in inside)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    touched = min(mapped, sum(file.resident for file in files))
    return int(total - mapped + touched)

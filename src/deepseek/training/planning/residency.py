"""Which of a loaded model's weights are in memory now."""

from __future__ import annotations

from typing import Any

from deepseek.models.mapped_weights import mappings


def on_meta(tensor: Any) -> Any:
    """An empty tensor like this one on the meta device."""
    import torch

    return torch.empty_like(tensor, device="meta")


def bytes_of(model: Any) -> int:
    """Bytes of a model's parameters and buffers in this machine's memory, or that they would take there."""
    unique = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    return sum(t.numel() * t.element_size() for t in unique.values() if t.device.type in {"cpu", "meta"})


def resident_weights(model: Any) -> tuple[int, int]:
    """Of a loaded model: bytes that are resident now, and bytes in mapped checkpoint files (touched or not)."""
    if model is None:
        return 0, 0
    files = mappings()
    tensors = {t.data_ptr(): t for t in [*model.parameters(), *model.buffers()] if t.device.type == "cpu"}
    inside = [t for at, t in tensors.items() if any(file.start <= at < file.end for file in files)]
    mapped = sum(t.numel() * t.element_size() for t in inside)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    touched = min(mapped, sum(file.resident for file in files))
    return total - mapped + touched, mapped

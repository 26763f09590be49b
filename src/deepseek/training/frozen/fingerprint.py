"""What stored states depend on, as a hash: other weights, another depth or other rows never meet in one file."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

_NOT_OF_STATES = ("label", "drop", "problem_type", "name_or_path", "transformers_version", "use_cache", "architectures",
                  "torch_dtype", "dtype", "output_", "return_dict", "chunk_size_feed_forward")  # fmt: skip
_OF_ADAPTERS = (".lora_", ".modules_to_save", ".original_module")


def trunk_fingerprint(model: nn.Module, above: set[str], details: dict[str, Any]) -> str:
    """Hash of a model's configuration and of the weights that its states at the boundary depend on.

    Args:
        above: paths in the base model of modules that run after the boundary; their weights are left out, so that
            fresh heads and poolers do not matter.
        details: what else matters (depth, dtypes).
    """
    import torch

    base: Any = getattr(model, "base_model", model)
    config: dict[str, Any] = base.config.to_dict()
    known = {k: v for k, v in config.items() if not any(part in k for part in _NOT_OF_STATES)}
    digest = hashlib.sha256(json.dumps([type(base).__name__, known, details], sort_keys=True, default=str).encode())
    tensors = [*base.named_parameters(), *base.named_buffers()]
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        path = name.rpartition(".")[0]
        if any(part in f".{name}" for part in _OF_ADAPTERS):
            continue
        if any(path == other or path.startswith(other + ".") for other in above):
            continue
        digest.update(f"{name.replace('.base_layer', '')} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
    return digest.hexdigest()


def item_bytes(item: dict[str, Any]) -> bytes:
    """A feature's values, without its answer, as bytes to hash."""
    import numpy as np

    parts: list[bytes] = []
    for key in sorted(item):
        if key in ("labels", "row"):
            continue
        value = item[key]
        if isinstance(value, str):
            parts += [key.encode(), value.encode()]
        else:
            array = np.asarray(value)
            parts += [key.encode(), str(array.shape).encode(), np.ascontiguousarray(array).tobytes()]
    return b"\0".join(parts)


def row_checksums(values: torch.Tensor, mask: torch.Tensor | None) -> list[int]:
    """A number a row that changes when its values or their order do, and not when its padding does.

    Args:
        values: a batch's main input: ids (batch, length), or pixels (batch, ...).
        mask: 1 where a value is not padding, (batch, length); ``None``: everywhere.
    """
    import torch

    numbers = values.detach().cpu()
    numbers = (numbers.float().view(torch.int32) if numbers.is_floating_point() else numbers).long().flatten(1)
    real = torch.ones_like(numbers) if mask is None else mask.detach().cpu().long()
    places = real.cumsum(1)
    mixed = (numbers + 1) * (places * 0x9E3779B1 % 0x7FFFFFFF) * real  # int64 that wraps around: a checksum, not a seal
    return [int(value) for value in mixed.sum(1)]

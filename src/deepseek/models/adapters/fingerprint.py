"""A fingerprint of the base model, so that an adapter is not put on another base than it was trained on.

What it covers: names and shapes of the backbone's weights, and up to 256 evenly spread values of each, rounded to
bfloat16. So the same checkpoint has the same fingerprint in float32 and in bfloat16, whatever adapters are on it and
whatever head is on top (heads and poolers are left out: they may be fresh). It samples, so it tells checkpoints apart,
not single changed values; float16 copies of a float32 checkpoint may differ in a rounded bit.

There are two digests. ``full`` covers all weights. ``unquantized`` leaves out the values of linear layers, which int8
and 4-bit storage change; it is what is compared when one of the two bases is quantised.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from deepseek.models.adapters.targets import own_path
from deepseek.models.mapped_weights import mappings, release

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SAMPLES = 256


class Fingerprint(BaseModel):
    """Two SHA-256 digests of a base; ``full`` is ``None`` for a quantised base, whose exact weights are gone."""

    model_config = ConfigDict(frozen=True)

    full: str | None
    unquantized: str

    def same_base(self, other: Fingerprint) -> bool:
        """Whether two fingerprints are of one checkpoint, as far as both can tell."""
        if self.full is not None and other.full is not None:
            return self.full == other.full
        return self.unquantized == other.unquantized

    def __str__(self) -> str:
        return (self.full or self.unquantized)[:16]


def fingerprint(model: PreTrainedModel) -> Fingerprint | None:
    """The fingerprint of the base under ``model``'s adapters; ``None`` for a model without weights (meta device).

    Reads 256 values a weight: below a second for a model of 7 billion parameters.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    from deepseek.models.quantization import quantized_weight

    backbone = getattr(model, "base_model", model)
    matrices: dict[str, tuple[int, ...]] = {}
    quantized = False
    for path, layer in backbone.named_modules():
        if isinstance(layer, torch.nn.Linear):
            matrices[f"{path}.weight"] = tuple(sorted((layer.in_features, layer.out_features)))
            quantized = quantized or quantized_weight(layer.weight)
        elif isinstance(layer, Conv1D):  # becomes a linear layer when it is quantised
            matrices[f"{path}.weight"] = tuple(sorted(layer.weight.shape))
    light, samples, linear_samples = hashlib.sha256(), [], []
    files = [file for file in mappings() if file.clean]
    for plain, name, weight in sorted((own_path(n), n, w) for n, w in backbone.named_parameters()):
        if ".lora_" in name or ".modules_to_save" in name or "pooler" in plain.split("."):
            continue
        if weight.device.type == "meta":
            return None
        light.update(f"{plain} {matrices.get(name, tuple(weight.shape))}\n".encode())
        if name not in matrices:
            samples.append(_sample(weight))
        elif not quantized:
            linear_samples.append(_sample(weight))
        release([weight.data], files)  # spread values draw in all pages of a mapped weight
    light.update(_bytes(samples))
    if quantized:
        return Fingerprint(full=None, unquantized=light.hexdigest())
    full = hashlib.sha256(light.digest() + _bytes(linear_samples))
    return Fingerprint(full=full.hexdigest(), unquantized=light.hexdigest())


def _sample(weight: torch.Tensor) -> torch.Tensor:
    import torch

    values = weight.detach()
    count = values.numel()
    if count > SAMPLES:
        at = torch.linspace(0, count - 1, SAMPLES, dtype=torch.float64, device="cpu").long().to(values.device)
        if values.is_contiguous():
            values = values.view(-1)[at]
        else:
            places = torch.unravel_index(at, values.shape)
            values = values[tuple(places)]
    return values.reshape(-1).to(torch.bfloat16)


def _bytes(samples: list[Any]) -> bytes:
    import torch

    if not samples:
        return b""
    together = torch.cat([sample.cpu() for sample in samples])  # one device to the host a weight: a few hundred copies
    return bytes(together.view(torch.int16).numpy().tobytes())

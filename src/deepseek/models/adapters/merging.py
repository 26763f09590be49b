"""An adapter's update added into the weights, so that a plain model comes out.

The sum is formed in float32. A quantised base is dequantised first, all of its layers, so that the result is a plain
model that saves as plain safetensors; it answers like the quantised base with its adapter (QLoRA, arXiv:2305.14314),
not like the adapter on the exact weights that were there before quantisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.models.adapters.switching import parent_of, wrappers
from deepseek.models.quantization import dequantize_layers, dequantized_layer, forget_quantization, quantized_weight

if TYPE_CHECKING:
    import torch


def merge_into(model: Any, adapter_name: str, dtype: torch.dtype | None) -> float:
    """Fold one adapter into ``model`` and take all wrappers off, in place.

    Args:
        dtype: of the dequantised layers of a quantised base; ``None`` takes that of the model's embeddings.

    Returns:
        The largest absolute difference between a sum in float32 and the weight that was stored.

    Raises:
        ConfigError: an update has values that are not finite; nothing was changed.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    target = dtype or model.get_input_embeddings().weight.dtype
    tuned = [(path, m) for path, m in wrappers(model) if isinstance(m, BaseTunerLayer)]
    sums = {
        path: _sum(path, module, adapter_name)
        for path, module in tuned
        if adapter_name in module._get_available_adapters() and _is_matrix(module)
    }
    error = 0.0
    for path, module in reversed(tuned):  # inner wrappers first: two may be around the experts of one block
        layer = module.base_layer
        if path in sums:
            if quantized_weight(layer.weight):
                layer = dequantized_layer(layer, target)
            stored = sums[path].to(layer.weight.dtype)
            error = max(error, float((stored.float() - sums[path]).abs().max()))
            layer.weight.data = stored.to(layer.weight.device)
        elif adapter_name in module._get_available_adapters():
            module.merge(safe_merge=True, adapter_names=[adapter_name])
            layer = module.base_layer
        setattr(parent_of(model, path), path.rpartition(".")[2], layer)
    for path, module in wrappers(model):
        saved = getattr(module, "modules_to_save", {})
        kept = saved[adapter_name] if adapter_name in saved else module.original_module  # noqa: SIM401 - no dict
        setattr(parent_of(model, path), path.rpartition(".")[2], kept)
    dequantize_layers(model, target)
    forget_quantization(model)
    return error


def _is_matrix(module: Any) -> bool:
    """Whether the sum is formed here: LoRA or DoRA on a linear layer. Other kinds use PEFT's own merge."""
    from peft.tuners.lora.layer import LoraLayer, ParamWrapper
    from peft.tuners.lora.variants import DoraLinearVariant
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return (
        isinstance(module, LoraLayer)
        and not isinstance(module, ParamWrapper)
        and isinstance(module.base_layer, nn.Linear | Conv1D)
        and all(isinstance(variant, DoraLinearVariant) for variant in module.lora_variant.values())
        and not any(module.lora_bias.values())
    )


def _sum(path: str, module: Any, adapter_name: str) -> torch.Tensor:
    """Base plus update in float32, of the shape that the plain layer keeps."""
    import torch
    from transformers.pytorch_utils import Conv1D

    layer = module.base_layer
    quantized = quantized_weight(layer.weight)
    plain = dequantized_layer(layer, torch.float32, as_linear=True) if quantized else layer
    transposed = isinstance(plain, Conv1D)  # then turned, so that all below is of shape (out, in)
    with torch.no_grad():
        base = (plain.weight.t() if transposed else plain.weight).float()
        low, high = module.lora_A[adapter_name].weight.float(), module.lora_B[adapter_name].weight.float()
        total = base + module.scaling[adapter_name] * (high @ low).to(base.device)
        if adapter_name in module.lora_variant:  # DoRA: each row gets the magnitude that was trained
            magnitude = module.lora_magnitude_vector[adapter_name].weight.float().to(base.device)
            total = total * (magnitude / torch.linalg.norm(total, dim=1)).unsqueeze(1)
    if not torch.isfinite(total).all():
        raise ConfigError(
            f"adapter {adapter_name!r} cannot be merged: its update of {path} has values that are not finite numbers"
        )
    keeps_transposed = transposed or issubclass(getattr(layer, "source_cls", torch.nn.Linear), Conv1D)
    return total.t().contiguous() if keeps_transposed else total

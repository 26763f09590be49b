"""Frozen bases in 8 and 4 bits, on which adapters train: QLoRA (Dettmers et al. 2023, arXiv:2305.14314).

``nf4`` keeps each linear weight in 4 bits (normal-float, blocks of 64, the block scales quantised again) and multiplies
in bfloat16; ``int8`` keeps a byte a weight with one scale a row (LLM.int8(), arXiv:2208.07339). Both through
bitsandbytes, on NVIDIA and AMD GPUs and on CPUs. Embeddings, norms, biases and everything outside the backbone (heads,
output embeddings, poolers) stay as they are: they are small, or they train.

What it buys: memory of weights, 0.52 bytes a linear weight for nf4 and 1.01 for int8 (bfloat16: 2, float32: 4). It
costs time, since each layer is dequantised in each pass. Measured on a CPU with native bfloat16 (BERT-base layers, one
thread, forward and backward of 1,024 tokens): float32 1, bfloat16 0.36, nf4 0.37, int8 1.0 (0.39 with dtype bfloat16);
for a single token, forward only: 1, 0.9, 1.3, 0.6. So nf4 is close to free in training, and int8 wants dtype bfloat16.

On a CPU, bitsandbytes rearranges 4-bit weights at the first inference, for a fused kernel that has no gradient and
wants output sizes in multiples of 32: training after that would silently lose its gradients. Layers that are loaded
here do not do it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, get_args

from deepseek.errors import ConfigError, UnknownNameError, require

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import BitsAndBytesConfig, PreTrainedModel

Quantization = Literal["none", "int8", "nf4"]
QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)


def bitsandbytes_config(quantization: str, keep: list[str]) -> BitsAndBytesConfig:
    """The transformers configuration of a quantisation; modules named in ``keep`` stay as they are.

    Raises:
        UnknownNameError: no such quantisation.
        MissingExtraError: bitsandbytes is not installed.
        ConfigError: bitsandbytes has no native library for this machine.
    """
    if quantization not in QUANTIZATIONS:
        raise UnknownNameError("quantization", quantization, QUANTIZATIONS)
    bitsandbytes: Any = require("bitsandbytes", "quantization")
    import torch
    from transformers import BitsAndBytesConfig

    if type(bitsandbytes.cextension.lib).__name__ == "ErrorHandlerMockBNBNativeLibrary":
        raise ConfigError(
            f"quantization {quantization!r} needs bitsandbytes' native library, and there is none for this machine "
            f"(bitsandbytes {bitsandbytes.__version__}); use quantization: none and dtype bfloat16"
        )
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=keep)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=keep,
    )


def kept_modules(auto_class: Any, path: Any, **config: Any) -> list[str]:
    """Linear layers that stay unquantised: outside the backbone, poolers, and the output embeddings.

    Reads the checkpoint's config only; the model that is looked at has no weights.
    """
    import torch
    from transformers import AutoConfig

    settings = AutoConfig.from_pretrained(path, trust_remote_code=False, **config)
    with torch.device("meta"):
        model = auto_class.from_config(settings)
    backbone = model.base_model
    inside = {id(module) for module in backbone.modules()}
    output = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and (id(module) not in inside or module is output or "pooler" in name.split("."))
    ]


def settle(model: PreTrainedModel) -> None:
    """Keep bitsandbytes' CPU layers in the one arrangement that has gradients (see the module's docstring)."""
    # on CPUs it warns in every int8 layer and pass that inputs become float16, which is how LLM.int8() works
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def prepare_for_training(model: PreTrainedModel, *, gradient_checkpointing: bool) -> None:
    """Make a model with a frozen, possibly quantised base trainable; call it after ``add_adapter``.

    With checkpointing, the backward pass goes through a block only if its input asks for a gradient, and the embeddings
    under an adapter are frozen: their output is made to ask. Quantised layers are settled (:func:`settle`).
    """
    settle(model)
    if gradient_checkpointing:
        model.enable_input_require_grads()


def quantization_of(model: nn.Module) -> str:
    """``"nf4"`` (any 4-bit), ``"int8"`` or ``"none"``: how the linear layers of a model are stored."""
    kinds = {type(weight).__name__ for weight in model.parameters()}
    return "nf4" if "Params4bit" in kinds else "int8" if "Int8Params" in kinds else "none"


def quantized_weight(weight: Any) -> bool:
    """Whether a weight is stored by bitsandbytes in 4 or 8 bits."""
    return type(weight).__name__ in {"Params4bit", "Int8Params"}


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights as they are stored, quantisation scales included; shared weights count once."""
    total = 0
    for weight in model.parameters():
        total += weight.numel() * weight.element_size()
        state = getattr(weight, "quant_state", None)
        if state is not None:
            scales = [state.absmax, state.code]
            if state.nested:
                scales += [state.state2.absmax, state.state2.code, state.offset]
            total += sum(t.numel() * t.element_size() for t in scales)
        elif type(weight).__name__ == "Int8Params" and weight.SCB is not None:
            total += weight.SCB.numel() * weight.SCB.element_size()
    for layer in model.modules():  # int8 moves its scales from the weight to the layer at the first pass
        state = getattr(layer, "state", None)
        if state is not None and getattr(state, "SCB", None) is not None and layer.weight.SCB is None:
            total += state.SCB.numel() * state.SCB.element_size()
    return total


def dequantized_layer(layer: Any, dtype: torch.dtype, *, as_linear: bool = False) -> Any:
    """A plain layer with the weights that a quantised one stands for; GPT-2's is a ``Conv1D`` unless ``as_linear``."""
    import torch
    from transformers.pytorch_utils import Conv1D

    functional: Any = require("bitsandbytes.functional", "quantization")
    weight = layer.weight
    if type(weight).__name__ == "Params4bit":
        if getattr(weight.quant_state, "packing_format_for_cpu", False):
            unpack = functional._convert_weight_packed_for_cpu_inverse
            weight.data, weight.quant_state = unpack(weight.data, weight.quant_state)
        values = functional.dequantize_4bit(weight.data, weight.quant_state)
    else:
        scales = weight.SCB if weight.SCB is not None else layer.state.SCB
        values = functional.int8_vectorwise_dequant(weight.data, scales)
    values = values.to(dtype)
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)
    transposed = issubclass(getattr(layer, "source_cls", torch.nn.Linear), Conv1D) and not as_linear
    with torch.device("meta"):
        plain: Any = (
            Conv1D(layer.out_features, layer.in_features)
            if transposed
            else torch.nn.Linear(layer.in_features, layer.out_features, bias=bias is not None)
        )
    plain.weight = torch.nn.Parameter(values.t().contiguous() if transposed else values)
    if bias is not None:
        plain.bias = torch.nn.Parameter(bias)
    plain.train(layer.training)
    return plain


def dequantize_layers(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace every quantised layer by a plain one of ``dtype``, in place."""
    for path, module in list(model.named_modules()):
        if quantized_weight(getattr(module, "weight", None)) and not hasattr(module, "base_layer"):
            parent, _, attribute = path.rpartition(".")
            setattr(model.get_submodule(parent), attribute, dequantized_layer(module, dtype))


def forget_quantization(model: Any) -> None:
    """Remove the marks that transformers puts on a quantised model, once no layer is quantised any more."""
    for mark in ("is_loaded_in_4bit", "is_loaded_in_8bit", "is_quantized", "quantization_method", "hf_quantizer"):
        if mark in model.__dict__:
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config

"""A language model as a GGUF file: weights and metadata, such that llama.cpp's readers and transformers give it back.

Names of tensors and keys, and the order of the rows of Llama's queries and keys, are those of llama.cpp's own converter
(https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py): its rotary embedding pairs neighbouring
numbers, transformers' pairs the halves of a head. Vectors (norms and biases) stay in float32 in every precision, as
there.
Not covered: mixtures of experts, scaled rotary positions, sliding windows, more than one file a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepseek.errors import ConfigError, require

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""Model types of transformers, and GGUF's architecture of each; Mistral's dense models are ``llama`` there."""
KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
"""Our names of precisions, and ggml's. ``q8_0``: 32 numbers share a scale, 8.5 bits a number."""
_FILE_TYPES = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16", "Q8_0": "MOSTLY_Q8_0"}


def check_config(config: PreTrainedConfig, dtype: str) -> None:
    """Refuse what a GGUF file of these architectures cannot say, or what its readers would compute otherwise.

    Raises:
        ConfigError: the message has the setting and what it is.
        MissingExtraError: the ``gguf`` library is not installed.
    """
    require("gguf", "gguf")
    if config.model_type not in ARCHITECTURES:
        raise ConfigError(
            f"GGUF is written for models of the types {', '.join(sorted(ARCHITECTURES))}, "
            f"received {config.model_type!r}; the format torch-export takes it"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    window = getattr(config, "sliding_window", None)
    if config.model_type.startswith("qwen") and not getattr(config, "use_sliding_window", False):
        window = None
    head_dim = _head_dim(config)
    refused = {
        "rope_type": rope.get("rope_type", "default") != "default" and rope.get("rope_type"),
        "sliding_window": window,
        "attention_bias": config.model_type in ("llama", "qwen3") and getattr(config, "attention_bias", False),
        "mlp_bias": getattr(config, "mlp_bias", False),
        "hidden_act": config.hidden_act != "silu" and config.hidden_act,
        "head_dim": config.model_type == "qwen2" and head_dim * config.num_attention_heads != config.hidden_size
        and head_dim,
    }  # fmt: skip
    if found := {name: value for name, value in refused.items() if value}:
        said = ", ".join(f"{name}={value!r}" for name, value in found.items())
        raise ConfigError(
            f"the {config.model_type} model has {said}, which readers of GGUF files would not apply; "
            "the format torch-export takes it as it is"
        )
    if dtype == "q8_0" and (config.hidden_size % 32 or config.intermediate_size % 32):
        raise ConfigError(
            f"q8_0 has blocks of 32 numbers, and rows of this model have {config.hidden_size} and "
            f"{config.intermediate_size}; take float16 or bfloat16"
        )


def write_gguf(
    path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, dtype: str, name: str
) -> None:
    """Write a model and its tokenizer as one GGUF file, tensor by tensor.

    Args:
        model: a causal language model of :data:`ARCHITECTURES`, in any precision.
        dtype: one of :data:`KINDS`.
        name: what the file calls the model (``general.name``).

    Raises:
        ConfigError: as :func:`check_config`, or the tokenizer is of a kind that cannot be written.
        MissingExtraError: the ``gguf`` library is not installed.
    """
    check_config(model.config, dtype)
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, LlamaFileType

    from deepseek.models.gguf.writing_vocabulary import add_vocabulary

    writer = GGUFWriter(path, ARCHITECTURES[model.config.model_type])
    try:
        writer.add_name(name)
        writer.add_file_type(LlamaFileType[_FILE_TYPES[KINDS[dtype]]])
        writer.add_quantization_version(2)
        _add_settings(writer, model.config)
        add_vocabulary(writer, tokenizer, rows=model.get_input_embeddings().weight.shape[0], config=model.config)
        tensors = _named(model)
        kinds = {
            each: GGMLQuantizationType[KINDS[dtype] if value.ndim > 1 else "F32"] for each, value in tensors.items()
        }
        for each, value in tensors.items():
            block, block_bytes = GGML_QUANT_SIZES[kinds[each]]
            writer.add_tensor_info(
                each, tuple(value.shape), np.dtype(np.float32), value.numel() // block * block_bytes, kinds[each]
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for each, value in tensors.items():
            writer.write_tensor_data(_encoded(_ordered(each, value, model.config), kinds[each]))
    finally:
        writer.close()


def _add_settings(writer: Any, config: PreTrainedConfig) -> None:
    head_dim = _head_dim(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float((getattr(config, "rope_parameters", None) or {}).get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _head_dim(config: PreTrainedConfig) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _named(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The model's parameters by GGUF's names; tied ones once."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    wanted = ARCHITECTURES[model.config.model_type]
    architecture = next(arch for arch, known in MODEL_ARCH_NAMES.items() if known == wanted)
    names = get_tensor_name_map(architecture, model.config.num_hidden_layers)
    found: dict[str, torch.Tensor] = {}
    for parameter, value in model.named_parameters():
        stem, _, suffix = parameter.rpartition(".")
        name = names.get_name(stem)
        if name is None:
            raise ConfigError(f"GGUF has no name for the layer {stem} of {type(model).__name__}")
        found[f"{name}.{suffix}"] = value.detach()
    return found


def _ordered(name: str, value: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """The rows of Llama's queries and keys in llama.cpp's order; everything else as it is."""
    if ARCHITECTURES[config.model_type] != "llama" or not name.endswith(("attn_q.weight", "attn_k.weight")):
        return value
    heads = config.num_attention_heads if name.endswith("attn_q.weight") else config.num_key_value_heads
    rows, columns = value.shape
    return value.reshape(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def _encoded(value: torch.Tensor, kind: Any) -> NDArray[Any]:
    from gguf import quantize

    encoded: NDArray[Any] = quantize(np.ascontiguousarray(value.float().cpu().numpy()), kind)
    return encoded

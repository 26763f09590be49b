"""From a GGUF file's metadata to a transformers config, by transformers' own tables of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.models.gguf.header import Header

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

FAMILIES = frozenset({"llama", "qwen2", "qwen3"})
"""Architectures that are read directly. Mistral's dense models are ``llama`` in GGUF files."""

_BEYOND_TRANSFORMERS = {"qwen3": {"attention.key_length": "head_dim"}}
"""Keys that transformers does not read: without this one it takes every Qwen3 for one of heads of 128."""


def is_direct(header: Header) -> bool:
    """Whether the file's architecture is one that is read directly: a dense model of :data:`FAMILIES`."""
    experts = header.metadata.get(f"{header.architecture}.expert_count", 0)
    return header.architecture in FAMILIES and not experts


def config_of(header: Header) -> PreTrainedConfig:
    """The transformers config that the file describes, as ``transformers.modeling_gguf_pytorch_utils`` builds it.

    Raises:
        ConfigError: the metadata lacks a key or has a value that the config refuses.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    values = _values(header)
    try:
        return AutoConfig.for_model(**values)
    except (StrictDataclassError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise ConfigError(f"{header.path} cannot be converted: its metadata make no valid config: {error}") from error


def _values(header: Header) -> dict[str, Any]:
    from transformers.integrations import GGUF_CONFIG_DEFAULTS_MAPPING, GGUF_CONFIG_MAPPING

    own = header.architecture
    # transformers' rule; names such as "Mistral 7B" stay Llama models, which compute the same
    family = "mistral" if own == "llama" and header.metadata.get("general.name") == "mistral" else own
    tables = {
        "general": GGUF_CONFIG_MAPPING["general"],
        "tokenizer": GGUF_CONFIG_MAPPING["tokenizer"],
        own: GGUF_CONFIG_MAPPING[family] | _BEYOND_TRANSFORMERS.get(own, {}),
    }
    values: dict[str, Any] = {"tie_word_embeddings": "output.weight" not in header.tensors}
    values |= GGUF_CONFIG_DEFAULTS_MAPPING.get(family, {})
    for key, value in header.metadata.items():
        prefix, _, rest = key.partition(".")
        name = tables.get(prefix, {}).get(rest)
        if name is not None:
            values[name] = value
    values["model_type"] = family
    if family == "mistral":  # its config class assumes a window of 4096, which no file of this architecture means
        values["sliding_window"] = header.metadata.get(f"{own}.attention.sliding_window")
    if "tokenizer.ggml.tokens" in header.metadata:
        values.setdefault("vocab_size", len(header.metadata["tokenizer.ggml.tokens"]))
    # left out by files whose heads all have their own keys and values; the rows of q and k are permuted by it
    values.setdefault("num_key_value_heads", values.get("num_attention_heads"))
    needed = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
    if absent := [name for name in needed if not isinstance(values.get(name), int)]:
        keys = [next((key for key, name in tables[own].items() if name == gone), gone) for gone in absent]
        raise ConfigError(
            f"{header.path} cannot be converted: expected a whole number under each of "
            f"{', '.join(f'{own}.{key}' for key in keys)} in its metadata, "
            f"received {[values.get(name) for name in absent]}"
        )
    return values


def unused(header: Header) -> list[str]:
    """What the file says of rotary positions and transformers does not read from GGUF files, for a note to the user."""
    prefix = f"{header.architecture}.rope.scaling."
    found = ["rope_freqs.weight"] if "rope_freqs.weight" in header.tensors else []
    if header.metadata.get(f"{prefix}type", "none") != "none":
        found += [f"{key}={value}" for key, value in header.metadata.items() if key.startswith(prefix)]
    return found

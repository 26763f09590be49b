"""From a checkpoint to a model with a cache: device, precision, and how much memory the cache may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.generation.core import CoreSettings
from deepseek.inference.generation.torch.blocks import BLOCK, blocks_for
from deepseek.inference.generation.torch.paged_model import PagedModel
from deepseek.inference.hardware.processor import processor_features
from deepseek.inference.torch_runtime import DTYPES
from deepseek.memory import free_memory
from deepseek.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

_SHARE = {"cuda": 0.85, "cpu": 0.5, "mps": 0.5}
"""Of the memory that is free once the weights are there, what the cache may take; the rest is for computing, and on
other devices than a GPU of our own for other programs."""


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision of that name; ``"auto"`` is bfloat16 where the device computes with it, else float32.

    Raises:
        UnknownNameError: there is no such precision here.
    """
    import torch

    if dtype not in DTYPES:
        raise UnknownNameError(
            "dtype", dtype, DTYPES, hint="int8 and int4 are known to the generation cores 'openvino' and 'vllm'."
        )
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cpu":
        return torch.bfloat16 if {"bfloat16", "AMX"} & set(processor_features()) else torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def load_model(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, adapters: Any = None
) -> tuple[PagedModel, list[str]]:
    """Load a causal language model and put adapters on it; returns it and the adapters' names in index order.

    Raises:
        ConfigError: see :class:`PagedModel` and :func:`put_on`.
    """
    from deepseek.models.loading import from_pretrained

    refuse_encoder_decoder(checkpoint)
    model: Any = from_pretrained(checkpoint, head="causal-lm", dtype=dtype)
    model = model.to(device).eval()
    for weight in model.parameters():
        weight.requires_grad_(False)
    names: list[str] = []
    if adapters:
        from deepseek.inference.generation.torch.loras import put_on

        names = put_on(model, adapters)
    return PagedModel(model, checkpoint.name), names


def refuse_encoder_decoder(checkpoint: Checkpoint) -> None:
    """Say so before the weights are read. Raises :class:`ConfigError`."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise ConfigError(f"{checkpoint.name!r} has no configuration that transformers can read: {error}") from error
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{checkpoint.name!r} is an encoder-decoder, which generation cores do not run; the runtime 'torch' of "
            "Predictor does"
        )


def cache_blocks(settings: CoreSettings, context: int | None, token_bytes: int, device: torch.device) -> int:
    """How many blocks the cache has.

    Args:
        context: of the model, in tokens; ``None``: not known.
        token_bytes: that one token takes in all caches.

    Raises:
        ConfigError: memory has no room for the smallest cache.
    """
    if settings.cache_tokens is not None:
        return settings.cache_tokens // BLOCK
    room = int(free_memory(str(device)) * _SHARE.get(device.type, 0.5)) // (BLOCK * token_bytes)
    if room < 2:
        raise ConfigError(
            f"no room for a key-value cache on {device}: a block of {BLOCK} tokens takes {BLOCK * token_bytes:,} bytes"
            "; free memory, or take a smaller model or 'dtype'"
        )
    return room if context is None else min(room, settings.max_sequences * blocks_for(context))


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a text: those that transformers' ``generate`` stops at."""
    told = model.generation_config.eos_token_id
    if told is None:
        told = tokenizer.eos_token_id
    if told is None:
        return frozenset()
    return frozenset([told] if isinstance(told, int) else told)

"""From a checkpoint to a model that runs on a paged cache: device, precision, adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.generation.torch.own_cache_model import MODEL_TYPES, OwnCacheModel
from deepseek.inference.generation.torch.paged_model import TransformersModel
from deepseek.inference.hardware.processor import processor_features
from deepseek.inference.torch_runtime import DTYPES
from deepseek.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch


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
) -> tuple[TransformersModel | OwnCacheModel, list[str]]:
    """Load a causal language model and put adapters on it; returns it and the adapters' names in index order.

    Raises:
        ConfigError: see :class:`TransformersModel` and :func:`put_on`; adapters for an :class:`OwnCacheModel`.
    """
    from deepseek.models.loading import from_pretrained

    refuse_encoder_decoder(checkpoint)
    model: Any = from_pretrained(checkpoint, head="causal-lm", dtype=dtype)
    model = model.to(device).eval()
    for weight in model.parameters():
        weight.requires_grad_(False)
    if model.config.model_type in MODEL_TYPES:
        if adapters:
            raise ConfigError(
                f"{checkpoint.name!r} is a {model.config.model_type}, which is served without adapters beside it; "
                "serve the bundle of a fine-tuned model, which has its adapter merged"
            )
        return OwnCacheModel(model, checkpoint.name), []
    names: list[str] = []
    if adapters:
        from deepseek.inference.generation.torch.loras import put_on

        names = put_on(model, adapters)
    return TransformersModel(model, checkpoint.name), names


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

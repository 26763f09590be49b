"""From this package's settings and sampling parameters to vLLM's, by their names of version 0.33."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.generation.core import CoreSettings
from deepseek.inference.generation.sampling import MOST_LOGPROBS, SamplingParameters
from deepseek.inference.generation.vllm.library import module
from deepseek.models.checkpoint import Checkpoint

DTYPES = ("auto", "float32", "bfloat16", "float16")
BLOCK = 16
"""Tokens of a cache block. vLLM keeps one block for itself."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
LONGEST_MATCH = 4
"""Last tokens that prompt lookup searches the prompt for, at the most; as few as one if there is no longer match."""


def engine_arguments(
    checkpoint: Checkpoint, *, device: str, dtype: str, settings: CoreSettings, positions: int | None
) -> dict[str, Any]:
    """Arguments of ``vllm.EngineArgs``.

    Args:
        positions: tokens that the model's positions cover, if its configuration says so.

    Raises:
        UnknownNameError: there is no such precision.
        ConfigError: the device is no GPU, or an adapter's folder is none.
    """
    if dtype not in DTYPES:
        hint = "vLLM reads weights that were quantized before, and quantizes none itself here."
        raise UnknownNameError("dtype", dtype, DTYPES, hint=hint)
    arguments: dict[str, Any] = {
        "model": str(checkpoint.path),
        "tokenizer": str(checkpoint.path),
        "dtype": dtype,
        "enable_prefix_caching": settings.prefix_reuse,
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": settings.max_step_tokens,
        # a step computes at least one token of each sequence that runs in it
        "max_num_seqs": min(settings.max_sequences, settings.max_step_tokens),
        "max_logprobs": MOST_LOGPROBS,
        "logprobs_mode": "raw_logprobs",
        "disable_log_stats": True,
        "max_model_len": -1,  # the model's, or what memory allows
    }
    if settings.cache_tokens is not None:
        blocks = -(-settings.cache_tokens // BLOCK)
        arguments |= {"block_size": BLOCK, "num_gpu_blocks_override": blocks + 1}
        arguments["max_model_len"] = min(blocks * BLOCK, positions or blocks * BLOCK)
    return arguments | _device(device) | _speculation(settings) | _adapters(settings.adapters)


def _device(device: str) -> dict[str, Any]:
    if device in ("auto", "cuda"):
        return {}
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number.isdigit():
        raise ConfigError(
            f"the core 'vllm' runs on NVIDIA and AMD GPUs; expected 'auto', 'cuda' or 'cuda:0', received {device!r}. "
            "The cores 'torch' and 'openvino' run on CPUs"
        )
    return {"device_ids": [int(number)]}


def _speculation(settings: CoreSettings) -> dict[str, Any]:
    if settings.prompt_lookup:
        guessing = {"prompt_lookup_max": LONGEST_MATCH, "prompt_lookup_min": 1}
        chosen = {"method": "ngram", "num_speculative_tokens": settings.prompt_lookup, **guessing}
    elif settings.draft is not None:
        guesses = {"num_speculative_tokens": settings.draft_tokens}
        chosen = {"method": "draft_model", "model": str(settings.draft.path), **guesses}
    else:
        return {}
    return {"speculative_config": chosen}


def _adapters(adapters: Mapping[str, Path]) -> dict[str, Any]:
    if not adapters:
        return {}
    most = max(_rank(name, folder) for name, folder in adapters.items())
    room = next((rank for rank in LORA_RANKS if rank >= most), None)
    if room is None:
        raise ConfigError(f"an adapter has rank {most}; vLLM takes ranks up to {LORA_RANKS[-1]}")
    count = len(adapters)
    return {"enable_lora": True, "max_loras": count, "max_cpu_loras": count, "max_lora_rank": room}


def _rank(name: str, folder: Path) -> int:
    file = folder / "adapter_config.json"
    if not file.is_file():
        raise ConfigError(f"adapter {name!r}: expected a folder in PEFT's format, but there is no {file}")
    config = json.loads(file.read_text(encoding="utf-8"))
    return max(int(config.get("r", 0)), *(int(r) for r in (config.get("rank_pattern") or {}).values()), 1)


def sampling_arguments(sampling: SamplingParameters, ends: frozenset[int]) -> dict[str, Any]:
    """Arguments of ``vllm.SamplingParams``.

    Stop texts are the engine's, which makes texts of tokens; ``temperature`` from 0 to 0.01 is 0.01 to vLLM.

    Args:
        ends: tokens that end a text.
    """
    arguments: dict[str, Any] = {
        "max_tokens": sampling.max_new_tokens,
        "min_tokens": sampling.min_new_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed,
        "logprobs": sampling.logprobs,
        "stop_token_ids": sorted({*sampling.stop_token_ids, *(() if sampling.ignore_eos else ends)}),
        "ignore_eos": sampling.ignore_eos,
        "detokenize": False,
        "output_kind": module("vllm.sampling_params").RequestOutputKind.DELTA,
    }
    if sampling.grammar is not None:
        field = {"json-schema": "json", "regex": "regex", "ebnf": "grammar"}[sampling.grammar.kind]
        outputs = module("vllm.sampling_params").StructuredOutputsParams
        arguments["structured_outputs"] = outputs(**{field: sampling.grammar.text})
    return arguments

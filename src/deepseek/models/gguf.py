"""GGUF files, converted once into a transformers folder of safetensors.

transformers reads GGUF itself but takes tens of seconds and then refuses to save the model, so the weights are copied
into a fresh model, saved, and found again by the file's SHA-256.
"""

from __future__ import annotations

import struct
from pathlib import Path

from deepseek import progress
from deepseek.artifacts.cache import cache_dir, sha256, staged_directory
from deepseek.errors import ConfigError, require

MAGIC = b"GGUF"
FORMAT = 1
"""Raise it when the conversion changes, so that old copies are not used."""

EXACT_UP_TO_BYTES = 1_000_000_000
"""Up to this file size the de-quantised weights are kept in float32, so that outputs equal transformers' own GGUF load
to the last bit; beyond it in bfloat16, whose rounding (0.4%) is far below a 4-bit block's, at half the size."""


def converted(path: Path) -> Path:
    """Return the folder of the converted checkpoint, converting it on first use.

    Raises:
        ConfigError: the file is not GGUF, is damaged, or its architecture is unknown to transformers.
        MissingExtraError: the ``gguf`` library is not installed.
    """
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise ConfigError(f"{path} is not a GGUF file: expected it to begin with {MAGIC!r}, received {magic!r}")
    target = cache_dir() / "converted" / f"{path.stem}-{sha256(path)[:16]}-v{FORMAT}"
    if target.is_dir():
        return target
    require("gguf", "gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from deepseek.models.loading import quiet_transformers

    with progress.bar(f"convert {path.name}", 3, "steps") as bar, quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            bar.advance(note="tokenizer")
            loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        except (ValueError, KeyError, OSError, IndexError, struct.error) as error:
            raise ConfigError(f"{path} cannot be converted: {type(error).__name__}: {error}") from error
        bar.advance(note="weights")
        config = loaded.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):
            fresh = AutoModelForCausalLM.from_config(config)
        fresh.load_state_dict(loaded.state_dict(), assign=True)
        fresh.tie_weights()
        fresh.generation_config = loaded.generation_config
        with staged_directory(target) as stage:
            exact = path.stat().st_size <= EXACT_UP_TO_BYTES
            fresh.to(torch.float32 if exact else torch.bfloat16).save_pretrained(stage)
            tokenizer.save_pretrained(stage)
        bar.advance(note="saved")
    return target

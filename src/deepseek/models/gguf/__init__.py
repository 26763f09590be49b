"""GGUF files, converted once into a transformers folder of safetensors.

transformers reads GGUF itself, but in tens of seconds (it walks the vocabulary three times, string by string, and makes
the table of names anew for every module of the model), with all weights in memory, and then refuses to save them. Here
the dense families are read directly, to the same bits; the rest goes through transformers. Copies are found again by
the file's SHA-256.
"""

from __future__ import annotations

from pathlib import Path

from deepseek import progress
from deepseek.artifacts.cache import cache_dir, sha256, staged_directory
from deepseek.errors import require
from deepseek.models.gguf.header import Header, check_magic, read_header

FORMAT = 2
"""Raise it when the conversion changes, so that old copies are not used."""

EXACT_UP_TO_BYTES = 1_000_000_000
"""Up to this file size the de-quantised weights are kept in float32, so that outputs equal transformers' own GGUF load
to the last bit; beyond it in bfloat16, whose rounding (0.4%) is far below a 4-bit block's, at half the size."""


def converted(path: Path) -> Path:
    """Return the folder of the converted checkpoint, converting it on first use.

    Raises:
        ConfigError: the file is not GGUF, is damaged, or its architecture is unknown to transformers; nothing was
            written.
        MissingExtraError: the ``gguf`` library is not installed.
    """
    check_magic(path)
    target = cache_dir() / "converted" / f"{path.stem}-{sha256(path)[:16]}-v{FORMAT}"
    if target.is_dir():
        return target
    require("gguf", "gguf")
    from deepseek.models.gguf.settings import is_direct
    from deepseek.models.loading import quiet_transformers

    header = read_header(path)
    narrow = path.stat().st_size > EXACT_UP_TO_BYTES
    with quiet_transformers():
        if is_direct(header):
            _convert(header, target, narrow=narrow)
        else:
            from deepseek.models.gguf import fallback

            model, tokenizer = fallback.load(header)
            with staged_directory(target) as stage:
                fallback.save(model, tokenizer, stage, narrow=narrow)
    return target


def _convert(header: Header, target: Path, *, narrow: bool) -> None:
    """Convert a file of a dense family; all that can be wrong with it is found before ``target`` is begun."""
    import torch
    from transformers import AutoModelForCausalLM

    from deepseek.models.gguf.safetensors_writer import write_safetensors
    from deepseek.models.gguf.settings import config_of, unused
    from deepseek.models.gguf.vocabulary import tokenizer_of
    from deepseek.models.gguf.weights import Weights

    name = header.path.name
    if ignored := unused(header):
        progress.console().print(
            f"  {name}: not applied, as in transformers: {', '.join(ignored)}", style="yellow", highlight=False
        )
    config = config_of(header)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if narrow else torch.float32)
    weights = Weights(header, model)
    tokenizer = tokenizer_of(header, config)
    total = model.num_parameters() * (2 if narrow else 4)
    with progress.bar(f"convert {name}", total, "bytes") as bar, staged_directory(target) as stage:
        write_safetensors(
            stage / "model.safetensors", weights.shapes, weights.chunks, narrow=narrow, advance=bar.advance
        )
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(stage)
        model.generation_config.save_pretrained(stage)
        tokenizer.save_pretrained(stage)

"""Conversion through transformers' own GGUF loader, for architectures that are not read directly."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from deepseek import progress
from deepseek.errors import ConfigError
from deepseek.models.gguf.header import Header

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load(header: Header) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, in float32 and fit to be saved, and its tokenizer. Takes tens of seconds and says so.

    transformers refuses to save a model that it loaded from GGUF, so its weights are moved into a fresh one.

    Raises:
        ConfigError: transformers does not know the architecture, or finds weights missing.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    known = (StrictDataclassError, ValueError, KeyError, OSError, IndexError, NotImplementedError, struct.error)
    path = header.path
    progress.console().print(
        f"  {path.name}: the architecture {header.architecture!r} is read through transformers, which takes longer",
        style="yellow",
        highlight=False,
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        loaded, report = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, output_loading_info=True
        )
    except known as error:
        raise ConfigError(f"{path} cannot be converted: {type(error).__name__}: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise ConfigError(
            f"{path} cannot be converted: transformers finds no weights for {', '.join(missing[:5])}"
            f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}, and would make them up"
        )
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config)
    fresh.load_state_dict(loaded.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.generation_config = loaded.generation_config
    return fresh, tokenizer


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stage: Path, *, narrow: bool) -> None:
    """Save what :func:`load` gave into the folder ``stage``, in float32 or (``narrow``) in bfloat16."""
    import torch

    model.to(torch.bfloat16 if narrow else torch.float32).save_pretrained(stage)
    tokenizer.save_pretrained(stage)

"""A GGUF file as a model in memory, read as :func:`deepseek.models.gguf.converted` reads it, and nothing kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepseek.errors import ConfigError
from deepseek.models.gguf.header import read_header

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def opened(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a dense family, in float32 and evaluation mode, and its tokenizer.

    Raises:
        ConfigError: the file cannot be read, or is of a family that is not read directly.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from deepseek.models.gguf.settings import config_of, is_direct
    from deepseek.models.gguf.vocabulary import tokenizer_of
    from deepseek.models.gguf.weights import Weights

    header = read_header(path)
    if not is_direct(header):
        raise ConfigError(f"{path} has the architecture {header.architecture!r}, which is not read directly")
    config = config_of(header)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    weights = Weights(header, model)
    state = {
        name: torch.from_numpy(np.concatenate(list(weights.chunks(name)))).reshape(shape)
        for name, shape in weights.shapes.items()
    }
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # its rotary angles are no weights
    fresh.load_state_dict(state, strict=False, assign=True)  # what is missing is tied, or it would have been refused
    fresh.tie_weights()
    return fresh.eval(), tokenizer_of(header, config)

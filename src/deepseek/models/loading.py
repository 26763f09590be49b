"""Load a checkpoint from anywhere as a transformers model with adapter methods."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.models.checkpoint import Checkpoint, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEADS: dict[str, str] = {
    "none": "AutoModel",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "causal-lm": "AutoModelForCausalLM",
}
"""Heads and the transformers Auto class that puts each on a checkpoint."""


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and load reports: we show our own, and we check what was missing."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def from_pretrained(
    name_or_path: str | os.PathLike[str] | Checkpoint, *, head: str = "none", dtype: Any = None, **config: Any
) -> PreTrainedModel:
    """Load a model from a folder, a GGUF file, the catalogue or the hub.

    Args:
        name_or_path: see :func:`deepseek.models.resolve`.
        head: ``"none"`` for hidden states, ``"sequence-classification"`` or ``"causal-lm"``.
        dtype: a torch dtype; ``None`` means float32.
        config: fields of the transformers config to override, such as ``num_labels=2``.

    Returns:
        A transformers model that also has ``add_adapter(name, LoRAConfig)``, ``save_adapter`` and ``merge_adapter``.
        Modules that the checkpoint did not bring are listed in ``model.fresh_modules``.

    Raises:
        UnknownNameError, ConfigError, FetchError: see :func:`deepseek.models.resolve`.
    """
    if head not in HEADS:
        raise UnknownNameError("head", head, HEADS)
    checkpoint = name_or_path if isinstance(name_or_path, Checkpoint) else resolve(name_or_path)
    import torch
    import transformers

    from deepseek.models.adapters.mixin import make_adaptable

    auto = getattr(transformers, HEADS[head])
    with quiet_transformers():
        try:
            model, report = auto.from_pretrained(
                checkpoint.path,
                dtype=dtype or torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **config,
            )
        except (ValueError, OSError, KeyError) as error:
            raise ConfigError(f"{checkpoint.name!r} cannot be loaded with the head {head!r}: {error}") from error
    missing = sorted({key.split(".", 1)[0] for key in report["missing_keys"]})
    backbone = model.base_model_prefix
    if head != "none" and backbone in missing and not _is_fresh_pooler(report["missing_keys"], backbone):
        raise ConfigError(
            f"{checkpoint.name!r} lacks weights of its own architecture {type(model).__name__}: "
            f"{', '.join(sorted(report['missing_keys'])[:5])}"
        )
    adaptable = make_adaptable(model)
    adaptable.fresh_modules = tuple(m for m in missing if m != backbone)
    adaptable.base_name = checkpoint.name
    return adaptable


def _is_fresh_pooler(missing: Any, backbone: str) -> bool:
    own = [key for key in missing if key.startswith(backbone + ".")]
    return bool(own) and all(".pooler." in key for key in own)


def tokenizer_for(name_or_path: str | os.PathLike[str] | Checkpoint) -> PreTrainedTokenizerBase:
    """Load the tokenizer that belongs to a checkpoint.

    Raises:
        ConfigError: the folder has no tokenizer files that transformers can read.
    """
    from transformers import AutoTokenizer

    checkpoint = name_or_path if isinstance(name_or_path, Checkpoint) else resolve(name_or_path)
    with quiet_transformers():
        try:
            return AutoTokenizer.from_pretrained(checkpoint.path, trust_remote_code=False)
        except (ValueError, OSError, KeyError) as error:
            raise ConfigError(f"{checkpoint.name!r} has no tokenizer that can be read: {error}") from error

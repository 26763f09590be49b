"""Load a checkpoint from anywhere as a transformers model with adapter methods."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, UnknownNameError, require
from deepseek.models.checkpoint import Checkpoint, resolve
from deepseek.models.kernel_caches import bound_kernel_caches

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

HEADS: dict[str, str] = {
    "none": "AutoModel",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "image-classification": "AutoModelForImageClassification",
}
"""Heads and the transformers Auto class that puts each on a checkpoint."""


_quiet = threading.Lock()
_quiet_depth = 0
_loud: tuple[int, bool] = (0, False)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and load reports: we show our own, and we check what was missing.

    Blocks may overlap, in several threads too: the last one to end restores what was before the first.
    """
    from transformers.utils import logging

    global _quiet_depth, _loud
    with _quiet:
        if _quiet_depth == 0:
            _loud = logging.get_verbosity(), logging.is_progress_bar_enabled()
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                logging.set_verbosity(_loud[0])
                if _loud[1]:
                    logging.enable_progress_bar()


def from_pretrained(
    name_or_path: str | os.PathLike[str] | Checkpoint,
    *,
    head: str = "none",
    dtype: Any = None,
    quantization: str = "none",
    **config: Any,
) -> PreTrainedModel:
    """Load a model from a folder, a GGUF file, the catalogue or the hub.

    Args:
        name_or_path: see :func:`deepseek.models.resolve`.
        head: ``"none"`` for hidden states, ``"causal-lm"`` or another of :data:`HEADS`. A head that the checkpoint
            lacks, or has for another number of labels, is made anew.
        dtype: a torch dtype; ``None`` means float32. With a quantisation: of what is not quantised.
        quantization: ``"int8"`` or ``"nf4"`` keeps the backbone's linear layers in 8 or 4 bits, frozen, for adapters to
            train on (:mod:`deepseek.models.quantization`); needs the extra ``quantization``.
        config: fields of the transformers config to override, such as ``num_labels=2``.

    Returns:
        A transformers model that also has ``add_adapter(name, LoRAConfig)``, ``save_adapter`` and ``merge_adapter``.
        Modules that the checkpoint did not bring are listed in ``model.fresh_modules``.

    Raises:
        UnknownNameError, ConfigError, FetchError: see :func:`deepseek.models.resolve`.
        MissingExtraError: a quantisation was asked for and bitsandbytes is not installed.
    """
    if head not in HEADS:
        raise UnknownNameError("head", head, HEADS)
    checkpoint = name_or_path if isinstance(name_or_path, Checkpoint) else resolve(name_or_path)
    import torch
    import transformers

    from deepseek.models import quantization as quantizing
    from deepseek.models.adapters.mixin import make_adaptable

    bound_kernel_caches()
    auto = getattr(transformers, HEADS[head])
    with quiet_transformers():
        try:
            if quantization != "none":
                keep = quantizing.kept_modules(auto, checkpoint.path, **config)
                config["quantization_config"] = quantizing.bitsandbytes_config(quantization, keep)
            model, report = auto.from_pretrained(
                checkpoint.path,
                dtype=dtype or torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # a head for other labels; anything else is refused below
                **config,
            )
        except (ValueError, OSError, KeyError) as error:
            raise ConfigError(f"{checkpoint.name!r} cannot be loaded with the head {head!r}: {error}") from error
    backbone = model.base_model_prefix
    resized = {entry[0]: entry[1:] for entry in report["mismatched_keys"]}
    for key, (stored, wanted) in resized.items():
        if key.startswith(backbone + ".") or head == "none":
            raise ConfigError(
                f"{checkpoint.name!r} has {key} of shape {tuple(stored)}, but its config says {tuple(wanted)}"
            )
    missing = sorted({key.split(".", 1)[0] for key in [*report["missing_keys"], *resized]})
    if head != "none" and backbone in missing and not _is_fresh_pooler(report["missing_keys"], backbone):
        raise ConfigError(
            f"{checkpoint.name!r} lacks weights of its own architecture {type(model).__name__}: "
            f"{', '.join(sorted(report['missing_keys'])[:5])}"
        )
    adaptable = make_adaptable(model)
    fresh = [m for m in missing if m != backbone]
    if backbone in missing:  # only a pooler, or it would have been refused
        fresh.append(f"{backbone}.pooler")
    adaptable.fresh_modules = tuple(fresh)
    adaptable.base_name = checkpoint.name
    if quantization != "none":
        quantizing.settle(adaptable)
    return adaptable


def _is_fresh_pooler(missing: Any, backbone: str) -> bool:
    own = [key for key in missing if key.startswith(backbone + ".")]
    return bool(own) and all(".pooler." in key for key in own)


def from_config(config: PreTrainedConfig, *, head: str = "none", **overrides: Any) -> PreTrainedModel:
    """A model of a transformers config with random weights (torch's generator), to be trained from scratch.

    Args:
        head: one of :data:`HEADS`.
        overrides: fields of the config to set, such as ``num_labels=2``.

    Raises:
        UnknownNameError: there is no such head.
        ConfigError: the architecture has no such head.
    """
    if head not in HEADS:
        raise UnknownNameError("head", head, HEADS)
    import copy

    import transformers

    from deepseek.models.adapters.mixin import make_adaptable

    bound_kernel_caches()
    own = copy.deepcopy(config)
    for name, value in overrides.items():
        setattr(own, name, value)
    try:
        return make_adaptable(getattr(transformers, HEADS[head]).from_config(own))
    except ValueError as error:
        raise ConfigError(f"{type(config).__name__} has no head {head!r}: {error}") from error


def processor_for(
    name_or_path: str | os.PathLike[str] | Checkpoint, kind: str = "tokenizer"
) -> PreTrainedTokenizerBase | BaseImageProcessor:
    """Load what turns raw values into a checkpoint's inputs: its ``"tokenizer"`` or its ``"image-processor"``.

    Image processors are transformers' PIL-based ones: torchvision is not needed, and not used where it is there, so
    that a picture gives the same numbers on every machine.

    Raises:
        ConfigError: the folder has no such files that transformers can read, or the kind is another one.
        MissingExtraError: Pillow is not installed.
    """
    if kind == "tokenizer":
        return tokenizer_for(name_or_path)
    if kind != "image-processor":
        raise ConfigError(f"expected 'tokenizer' or 'image-processor', received {kind!r}")
    require("PIL", "images")
    from transformers import AutoImageProcessor

    checkpoint = name_or_path if isinstance(name_or_path, Checkpoint) else resolve(name_or_path)
    with quiet_transformers():
        try:
            return AutoImageProcessor.from_pretrained(checkpoint.path, backend="pil", trust_remote_code=False)
        except (ValueError, OSError, KeyError) as error:
            raise ConfigError(f"{checkpoint.name!r} has no image processor that can be read: {error}") from error


def tokenizer_for(name_or_path: str | os.PathLike[str] | Checkpoint) -> PreTrainedTokenizerBase:
    """Load the tokenizer that belongs to a checkpoint.

    Raises:
        ConfigError: the folder has no tokenizer files that transformers can read.
    """
    from transformers import AutoTokenizer

    checkpoint = name_or_path if isinstance(name_or_path, Checkpoint) else resolve(name_or_path)
    with quiet_transformers():
        try:
            config = _plain_config(checkpoint.path)
            found = AutoTokenizer.from_pretrained(checkpoint.path, config=config, trust_remote_code=False)
        except (ValueError, OSError, KeyError) as error:
            raise ConfigError(f"{checkpoint.name!r} has no tokenizer that can be read: {error}") from error
    files = {*found.vocab_files_names.values(), "tokenizer.json"}
    if found.vocab_files_names and not any((checkpoint.path / name).is_file() for name in files):
        # transformers 5 makes one without words then
        raise ConfigError(
            f"{checkpoint.name!r} has no tokenizer: expected one of {', '.join(sorted(files))} in {checkpoint.path}"
        )
    return found


def _plain_config(folder: Path) -> PreTrainedConfig | None:
    """The config of a folder whose tokenizer says its class, without the class of the config; else ``None``.

    ``AutoTokenizer`` then needs no more of the config than the model's type. Left to itself it imports the config's
    class, which in transformers 5 imports much of PyTorch's compiler: two seconds.
    """
    from transformers import PreTrainedConfig

    file = folder / "tokenizer_config.json"
    told = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    if "tokenizer_class" not in told or "auto_map" in told or not (folder / "config.json").is_file():
        return None
    return PreTrainedConfig.from_pretrained(folder)

"""A checkpoint of a language model as an OpenVINO decoder on disk, made once for each kind of packing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.inference.conversion.keeping import ABOUT, kept
from deepseek.inference.generation.ending import end_tokens
from deepseek.inference.generation.native.packing import FewTokensWriter
from deepseek.inference.generation.openvino.graph import QKV, Shape, build, rotary_of
from deepseek.inference.generation.openvino.packing import Packer
from deepseek.inference.openvino.library import openvino, reason

if TYPE_CHECKING:
    from deepseek.models.checkpoint import Checkpoint

MODEL = "openvino_model.xml"
DECODER = "decoder 5"
"""With a number that is raised when another graph or packing is written for the same checkpoint."""


def decoder(checkpoint: Checkpoint, packing: str) -> Path:
    """The folder of a checkpoint as an OpenVINO decoder, made unless it is there.

    The folder opens in OpenVINO GenAI too, whose names its files have.

    Args:
        packing: a name of :data:`deepseek.inference.generation.openvino.packing.KINDS`.

    Raises:
        ConfigError: the model has a part that cannot be built, or its weights do not fit its config.
    """
    form = f"{DECODER} {packing}"
    return kept("openvino", checkpoint, form, libraries=("openvino", "transformers"), convert=_convert)


def _convert(checkpoint: Checkpoint, form: str, folder: Path) -> None:
    import torch
    from transformers import AutoConfig

    from deepseek.models.loading import from_pretrained

    config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False)
    shape = Shape.of(config)
    rotary, scaling = rotary_of(config)
    stored = getattr(config, "dtype", None)
    kind = stored if stored in (torch.float16, torch.bfloat16) else torch.float32
    model = from_pretrained(checkpoint, head="causal-lm", dtype=kind)
    weights: dict[str, Any] = {name: value.detach() for name, value in model.state_dict().items()}
    packing = form.removeprefix(f"{DECODER} ")
    few = FewTokensWriter(lambda name: tensor(name).float().numpy() if has(name) else None)
    packer = Packer(packing, few.packed)

    def names(name: str) -> list[str]:
        return [name.replace(QKV, f"{part}_proj") for part in "qkv"] if QKV in name else [name]

    def has(name: str) -> bool:
        return any(each in weights for each in names(name))

    def tensor(name: str) -> torch.Tensor:
        for each in names(name):
            if each not in weights:
                raise ConfigError(f"{checkpoint.name!r} has no weight {each}; the generation core 'torch' may run it")
        parts = [weights[each] for each in names(name)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    with torch.inference_mode():
        try:
            made = build(shape, lambda name: packer.node(name, tensor(name)), has, rotary, scaling)
        except RuntimeError as error:
            raise ConfigError(
                f"OpenVINO cannot build {checkpoint.name!r} ({config.model_type}): {reason(error)}. The generation "
                "core 'torch' runs every standard transformers model"
            ) from error
    openvino().save_model(made, folder / MODEL, compress_to_fp16=False)
    if packing != "float":
        few.write(folder, _few_about(shape, rotary, scaling))
    about = {
        "layers": shape.layers,
        "context_length": getattr(config, "max_position_embeddings", None),
        "end_tokens": sorted(end_tokens(model) or ()),
        "vocabulary": config.vocab_size,
    }
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)


def _few_about(shape: Shape, rotary: Any, scaling: float) -> dict[str, Any]:
    names = ("layers", "hidden", "heads", "kv_heads", "head_size", "epsilon", "activation", "tied")
    return {name: getattr(shape, name) for name in names} | {"frequencies": rotary, "rotary_scale": scaling}

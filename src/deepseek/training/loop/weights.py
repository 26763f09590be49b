"""The weights that a run trains, to and from a folder: an adapter in PEFT's format, else safetensors.

Frozen weights are not written again: they are those of the model that the run began with.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ADAPTERS = "adapters"
WEIGHTS = "model.safetensors"


def save_weights(model: PreTrainedModel, folder: Path) -> None:
    """Write what trains (and buffers that a forward pass changes, such as batch-norm statistics) into ``folder``."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name in _active(model):
        model.save_adapter(folder / ADAPTERS / name, name)
    state = _state(model)
    if state:
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    if not _active(model) and all(weight.requires_grad for weight in model.parameters()):
        model.config.save_pretrained(folder)  # all weights are here, so transformers can open the folder


def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Put back what :func:`save_weights` wrote, into a model set up in the same way.

    Raises:
        ConfigError: the folder has other weights than those that train.
    """
    import torch
    from safetensors.torch import load_file

    for name in _active(model):
        if not (folder / ADAPTERS / name).is_dir():
            raise ConfigError(f"{folder} has no weights of the adapter {name!r}: it is another run's")
        model.restore_adapter(folder / ADAPTERS / name, name)
    state = _state(model)
    stored = load_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else {}
    if {k: v.shape for k, v in stored.items()} != {k: v.shape for k, v in state.items()}:
        other = sorted({*stored} ^ {*state})[:3] or sorted(k for k in stored if stored[k].shape != state[k].shape)[:3]
        raise ConfigError(f"{folder} holds other weights than those that train here, e.g. {', '.join(other)}")
    with torch.no_grad():
        for name, value in stored.items():
            state[name].copy_(value)


def _active(model: Any) -> list[str]:
    """Names of the adapters that are in use."""
    if not getattr(model, "_hf_peft_config_loaded", False):
        return []
    return list(model.active_adapters())


def _state(model: Any) -> dict[str, torch.Tensor]:
    """Trained weights outside adapters, and persistent buffers of floats, by name."""
    adapted = bool(_active(model))
    found = {} if adapted else {n: w for n, w in model.named_parameters() if w.requires_grad}
    persistent = model.state_dict().keys()
    buffers = {n: b for n, b in model.named_buffers() if n in persistent and b.dtype.is_floating_point}
    counters = {n: b for n, b in model.named_buffers() if n in persistent and n.endswith("num_batches_tracked")}
    if adapted and getattr(model, "quantization_method", None) is not None:
        return {}  # the buffers are the quantised weights' own
    return {**found, **buffers, **counters}

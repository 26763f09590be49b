"""A model between processes as files that cannot run code: JSON and safetensors.

A model that was loaded in the driver is written whole, class name, configuration, adapters and weights, and made anew
in the workers. What training changed comes back as one safetensors file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.artifacts.cache import write_text
from deepseek.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TRAINED = "trained.safetensors"


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """All of a model but its weights, as JSON values: class, configuration, adapters, what trains.

    Raises:
        ConfigError: the model is quantised or of a class that cannot be imported; give its name to ``fit`` instead.
    """
    kind = _class(model)
    if getattr(model, "quantization_method", None) is not None:
        raise ConfigError(
            "a quantised model that is loaded already cannot be handed to workers; give fit the checkpoint's name"
        )
    if "<" in kind.__qualname__ or kind.__module__ == "__main__":
        raise ConfigError(
            f"expected a model class that workers can import, received {kind.__module__}.{kind.__qualname__}; "
            "put it into a module"
        )
    configs: Mapping[str, Any] = getattr(model, "peft_config", {})
    return {
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "config": json.loads(model.config.to_json_string(use_diff=False)),
        "adapters": {name: _json(config.to_dict()) for name, config in configs.items()},
        "active": model.active_adapters() if configs else [],
        "fresh_modules": list(getattr(model, "fresh_modules", ())),
        "base_name": getattr(model, "base_name", None),
        "trainable": [name for name, weight in model.named_parameters() if weight.requires_grad],
    }


def build(about: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """The model that :func:`describe` described, with the weights ``state``."""
    from peft import PeftConfig
    from transformers import PreTrainedModel as Base

    from deepseek.models.adapters.mixin import make_adaptable

    module, _, name = about["class"].partition(":")
    kind: Any = import_module(module)
    for part in name.split("."):
        kind = getattr(kind, part)
    if not (isinstance(kind, type) and issubclass(kind, Base)):
        raise ConfigError(f"expected a transformers model class, received {about['class']!r}")
    floating = next((v.dtype for v in state.values() if v.is_floating_point()), None)
    architecture: Any = kind
    config = architecture.config_class.from_dict(dict(about["config"]))
    model = make_adaptable(architecture._from_config(config, dtype=floating))
    model.fresh_modules, model.base_name = tuple(about["fresh_modules"]), about["base_name"]
    for adapter, settings in about["adapters"].items():
        model.add_adapter(adapter, PeftConfig.from_peft_type(**settings))
    if about["active"]:
        model.set_adapter(about["active"])
    load_state(model, state, whole=True)
    trainable = set(about["trainable"])
    for parameter, weight in model.named_parameters():
        weight.requires_grad_(parameter in trainable)
    return model


def write_model(model: PreTrainedModel, folder: str | os.PathLike[str]) -> None:
    """Write a model, adapters included, for :func:`read_model`; raises what :func:`describe` raises."""
    from safetensors.torch import save_file

    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    write_text(home / "model.json", json.dumps(describe(model)))
    save_file(_separate(model.state_dict()), home / "weights.safetensors", metadata={"format": "pt"})


def read_model(folder: str | os.PathLike[str]) -> PreTrainedModel:
    """The model that :func:`write_model` wrote."""
    from safetensors.torch import load_file

    about = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
    return build(about, load_file(Path(folder) / "weights.safetensors"))


def write_trained(state: Mapping[str, torch.Tensor], folder: str | os.PathLike[str]) -> None:
    """Write what :func:`trained_state` gave."""
    from safetensors.torch import save_file

    save_file(_separate(state), Path(folder) / TRAINED, metadata={"format": "pt"})


def trained_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights that train, and the buffers, by name."""
    source = model.state_dict()
    wanted = {n for n, w in model.named_parameters() if w.requires_grad} | {n for n, _ in model.named_buffers()}
    return {name: source[name].detach().cpu() for name in sorted(wanted & source.keys())}


def read_trained(folder: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """What :func:`write_trained` wrote."""
    from safetensors.torch import load_file

    return dict(load_file(Path(folder) / TRAINED))


def load_state(model: Any, state: Mapping[str, torch.Tensor], *, whole: bool) -> None:
    """Copy weights into a model, in place; ``whole``: all of its weights have to be there.

    Raises:
        ConfigError: the model has not one of the weights, or of another shape, or the other way round.
    """
    import torch

    own = model.state_dict()
    wrong = [n for n, w in state.items() if n not in own or own[n].shape != w.shape]
    tied = {w.data_ptr() for n, w in own.items() if n in state}
    missing = [n for n, w in own.items() if n not in state and w.data_ptr() not in tied] if whole else []
    if wrong or missing:
        raise ConfigError(f"the weights between driver and workers differ: {', '.join((wrong + missing)[:5])}")
    with torch.no_grad():
        for name, weight in state.items():
            own[name].copy_(weight)


def _separate(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One tensor for each piece of memory: safetensors stores no aliases (tied weights)."""
    seen: set[tuple[int, torch.Size]] = set()
    kept = {}
    for name, weight in state.items():
        place = (weight.data_ptr(), weight.shape)
        if place not in seen or not weight.numel():
            seen.add(place)
            kept[name] = weight.detach().cpu().contiguous().clone()
    return kept


def _class(model: Any) -> type[Any]:
    from deepseek.models.adapters.mixin import AdapterMixin

    kind = type(model)
    return kind.__bases__[1] if isinstance(model, AdapterMixin) else kind  # see adaptable_class


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, set | frozenset | list | tuple):
        return sorted(value) if isinstance(value, set | frozenset) else [_json(v) for v in value]
    return getattr(value, "value", value)

"""A :class:`LoRAConfig` made exact for one model: every name, pattern and layer index checked against it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.models.adapters.roles import layer_of
from deepseek.models.adapters.targets import (
    GENERAL,
    adaptable_layers,
    ends_with,
    own_path,
    plain_paths,
    shortest_ends,
    target_paths,
)

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn

    from deepseek.models.adapters.config import LoRAConfig

Number = TypeVar("Number", int, float)


def resolve_config(model: nn.Module, config: LoRAConfig, fresh_modules: Collection[str]) -> LoraConfig:
    """PEFT's configuration for this model.

    Raises:
        UnknownNameError: a target, a pattern's key or a module to save matches nothing; the message has near names.
        ConfigError: a layer index is out of range, or the initialisation does not work on these weights.
    """
    from transformers.pytorch_utils import Conv1D

    from deepseek.models.quantization import quantized_weight

    paths = adaptable_layers(model)
    modules = plain_paths(model)
    chosen: dict[str, None] = {}
    for name in config.target_modules:
        chosen.update(dict.fromkeys(target_paths(model, name, paths)))
    targets = shortest_ends(list(chosen), modules)
    adapted = list(chosen)
    layers = None
    if config.layers is not None:
        indices = layer_indices(model, adapted, config.layers)
        layers = indices, sorted({found[1] for path in adapted if (found := layer_of(path))})
        adapted = [path for path in adapted if (found := layer_of(path)) and found[2] in indices]
    parameters = [name for name, _ in model.named_parameters()]
    for name in config.target_parameters or ():
        if not any(ends_with(own_path(path), name) for path in parameters):
            raise UnknownNameError("target parameter", name, {".".join(p.split(".")[-3:]) for p in parameters})
    for name in config.modules_to_save or ():
        if not any(ends_with(path, name) for path in modules):
            raise UnknownNameError("module to save", name, [p.rpartition(".")[2] for p in modules if p])
    if config.from_weights:
        if any(quantized_weight(paths[path].weight) for path in adapted):
            raise ConfigError(
                f"init {config.init!r} starts from the exact weights, and those of the adapted layers are quantised; "
                "use init: default, or load the base without quantization"
            )
        if any(isinstance(paths[path], Conv1D) for path in adapted):
            raise ConfigError(f"init {config.init!r} needs linear layers, and {type(model).__name__} has Conv1D ones")
    asked = tuple(config.target_parameters or ())
    known = adapted + [own_path(name) for name in parameters if any(ends_with(own_path(name), p) for p in asked)]
    transposed = [isinstance(paths[path], Conv1D) for path in adapted]
    return config.to_peft(
        targets,
        list(fresh_modules),
        layers=layers,
        rank_pattern=_patterns(model, "rank_pattern", config.rank_pattern, known, modules),
        alpha_pattern=_patterns(model, "alpha_pattern", config.alpha_pattern, known, modules),
        fan_in_fan_out=bool(transposed) and all(transposed),
    )


def layer_indices(model: nn.Module, paths: Collection[str], asked: Collection[int]) -> list[int]:
    """Layer indices from 0, without duplicates, for indices that may count from the last layer (-1).

    Raises:
        ConfigError: an index is out of range; or it is negative and the model has stacks of different depth.
    """
    depth: dict[str, int] = {}
    for path in paths:
        if found := layer_of(path):
            depth[found[0]] = max(depth.get(found[0], 0), _length(model, found[0]))
    name = type(model).__name__
    if not depth:
        raise ConfigError(f"the adapted layers of {name} are not in numbered layers; leave `layers` out")
    count = max(depth.values())
    stacks = ", ".join(f"{stack}: {n}" for stack, n in sorted(depth.items()))
    wrong = [index for index in asked if not -count <= index < count]
    if wrong:
        shared = getattr(getattr(model, "config", None), "num_hidden_layers", count)
        why = f" It runs them {shared} times with the same weights." if shared > count and len(depth) == 1 else ""
        raise ConfigError(
            f"{name} has {count} layer{'s' * (count > 1)} ({stacks}), so indices go from {-count} to {count - 1}; "
            f"received layers {sorted(wrong)}.{why}"
        )
    if any(index < 0 for index in asked) and len(set(depth.values())) > 1:
        raise ConfigError(
            f"{name} has stacks of different depth ({stacks}), so it is not clear which layers {sorted(asked)} are; "
            "give indices from 0"
        )
    return sorted({index % count for index in asked})


def _length(model: nn.Module, stack: str) -> int:
    return len(list(model.get_submodule(stack).children()))


def _patterns(
    model: nn.Module, field: str, patterns: Mapping[str, Number], adapted: Collection[str], modules: Collection[str]
) -> dict[str, Number]:
    """Patterns with general names replaced; each matches an adapted layer as PEFT matches, as a regular expression."""
    resolved: dict[str, Number] = {}
    for key, value in patterns.items():
        try:
            matched = any(re.match(rf"(.*\.)?({key})$", path) for path in adapted)
        except re.error as error:
            raise ConfigError(
                f"{field}: {key!r} is neither a layer's name nor a regular expression: {error}"
            ) from error
        if matched:
            resolved[key] = value
            continue
        general = [path for path in target_paths(model, key) if path in set(adapted)] if key in GENERAL else []
        if not general:
            raise UnknownNameError(
                f"layer in {field}",
                key,
                shortest_ends(adapted, modules),
                hint=f"Layers that this adapter changes: {', '.join(shortest_ends(adapted, modules)) or 'none'}.",
            )
        resolved.update(dict.fromkeys(shortest_ends(general, modules), value))
    return resolved

"""Names of layers that mean the same on every architecture.

``query_key_value`` is what GPT-NeoX, BLOOM and Falcon call their fused projection; BERT has ``query``, ``key`` and
``value``, Llama ``q_proj``, ``k_proj`` and ``v_proj``. A name that the model has is used as it is; a general name is
looked up by role (:mod:`deepseek.models.adapters.roles`); anything else is an error that lists the names that exist.

Not offered, since an adapter there would be ignored, refused or put elsewhere: layers whose weight the model reads
without calling the layer (the output projection of ``nn.MultiheadAttention``, Mamba's ``out_proj`` and ``dt_proj``),
and in mixtures of experts the dense layers whose names PEFT takes for those of the fused experts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from deepseek.errors import UnknownNameError
from deepseek.models.adapters.roles import fused_experts, roles

if TYPE_CHECKING:
    from torch import nn

GENERAL: dict[str, tuple[str, ...]] = {
    "query_key_value": ("query", "key", "value"),
    "query": ("query",),
    "key": ("key",),
    "value": ("value",),
    "attention_output": ("attention_output",),
    "mlp": ("mlp",),
}
"""General name -> roles, each of which the model must have; ``all-linear`` is every linear layer of the backbone."""

_MAMBA = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
_READ_BY_MAMBA = frozenset({"out_proj", "dt_proj"})
_READ_NOT_CALLED = frozenset({"rel_pos_bias", "rel_pos_x_bias", "rel_pos_y_bias"})  # LayoutLM


def resolve_targets(model: nn.Module, target_modules: Iterable[str]) -> list[str]:
    """Translate target names into layer names that exist in ``model``.

    Args:
        model: any torch module, usually a transformers model.
        target_modules: layer names (whole or the last parts of the dotted path) or general names.

    Returns:
        Names as PEFT matches them: the shortest ends of dotted paths that stand for these layers and no other module,
        in the order asked for, without duplicates.

    Raises:
        UnknownNameError: a name is neither a layer of the model nor a general name that applies to it.
    """
    paths = adaptable_layers(model)
    modules = plain_paths(model)
    found: list[str] = []
    for name in target_modules:
        found.extend(shortest_ends(target_paths(model, name, paths), modules))
    return list(dict.fromkeys(found))


def target_paths(model: nn.Module, name: str, paths: dict[str, nn.Module] | None = None) -> list[str]:
    """Dotted paths of the layers that one target name stands for; see :func:`resolve_targets`."""
    paths = adaptable_layers(model) if paths is None else paths
    literal = [path for path in paths if ends_with(path, name)]
    if literal:
        return literal
    if name == "all-linear":
        heads = {id(layer) for layer in _heads(model)}
        return _required(name, [path for path, layer in paths.items() if id(layer) not in heads], model, paths)
    if name not in GENERAL:
        return _required(name, [], model, paths)
    by_path = {path: roles(path) for path in paths}
    if any(not any(role in has for has in by_path.values()) for role in GENERAL[name]):
        return _required(name, [], model, paths)
    if name == "mlp" and fused_experts(model):
        return _required(name, [], model, paths)
    return [path for path, has in by_path.items() if has & set(GENERAL[name])]


def adaptable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that LoRA can adapt, by dotted path: linear layers (also quantised) and GPT-2's transposed ones."""
    from torch import nn
    from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
    from transformers.pytorch_utils import Conv1D

    kind = getattr(getattr(model, "config", None), "model_type", "")
    elsewhere = names_of_experts(kind)
    found: dict[str, nn.Module] = {}
    for path, layer in model.named_modules():
        if _of_adapter(path) or ".original_module" in path:
            continue
        own = own_path(path)  # a layer that an adapter wraps already keeps its own name
        name = own.rpartition(".")[2]
        ignored = (
            isinstance(layer, NonDynamicallyQuantizableLinear)
            or name in _READ_NOT_CALLED
            or (kind in _MAMBA and name in _READ_BY_MAMBA)
            or name in elsewhere
        )
        if isinstance(layer, nn.Linear | Conv1D) and not ignored:
            found[own] = layer
    return found


def names_of_experts(model_type: str) -> frozenset[str]:
    """Layer names that PEFT turns into parameters of the fused experts on an architecture, wherever they are."""
    from peft.utils.transformers_weight_conversion import _MOE_TARGET_MODULE_MAPPING
    from transformers.conversion_mapping import _MODEL_TO_CONVERSION_PATTERN

    pattern = _MODEL_TO_CONVERSION_PATTERN.get(model_type)
    return frozenset(_MOE_TARGET_MODULE_MAPPING.get(pattern, ()))


def own_path(path: str) -> str:
    """A module's path as it is without adapters around it."""
    return path.replace(".base_layer", "").replace(".original_module", "")


def plain_paths(model: nn.Module) -> list[str]:
    """Paths of all modules as they are without adapters."""
    return list(dict.fromkeys(own_path(path) for path, _ in model.named_modules() if path and not _of_adapter(path)))


def _of_adapter(path: str) -> bool:
    return ".lora_" in path or ".modules_to_save" in path


def ends_with(path: str, name: str) -> bool:
    """Whether a name is a path or its last parts."""
    return path == name or path.endswith("." + name)


def shortest_ends(chosen: Collection[str], modules: Collection[str]) -> list[str]:
    """The shortest ends of paths that match all ``chosen`` modules and no other of ``modules``."""
    wanted, left, found = set(chosen), list(chosen), []
    others = [path for path in modules if path not in wanted]
    while left:
        parts = left[0].split(".")
        ends = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        end = next((e for e in ends if not any(ends_with(path, e) for path in others)), left[0])
        found.append(end)
        left = [path for path in left if not ends_with(path, end)]
    return sorted(found)


def _heads(model: nn.Module) -> list[nn.Module]:
    """Layers that turn states into answers: what is outside the backbone, and the output embeddings."""
    getter = getattr(model, "get_output_embeddings", None)
    output = getter() if getter else None
    fresh = set(getattr(model, "fresh_modules", ()))
    backbone = getattr(model, "base_model", model)
    inside = {id(layer) for layer in backbone.modules()}
    outside = [
        layer
        for path, layer in model.named_modules()
        if id(layer) not in inside or any(path == name or path.startswith(name + ".") for name in fresh)
    ]
    return ([output] if output is not None else []) + outside


def _required(name: str, found: list[str], model: nn.Module, paths: dict[str, nn.Module]) -> list[str]:
    if found:
        return found
    ends = sorted({path.rpartition(".")[2] for path in paths})
    has = {role for path in paths for role in roles(path)}
    fitting = [general for general, needs in GENERAL.items() if set(needs) <= has and general != name]
    if not paths:
        hint = (
            f"{type(model).__name__} has no linear layer that an adapter could change (a convolutional network, "
            "perhaps): train all its weights, or its head alone."
        )
    else:
        hint = (
            f"Layers of this model that can be adapted: {', '.join(ends)}. "
            f"Names that mean the same on every architecture: {', '.join([*fitting, 'all-linear'])}."
        )
    experts = fused_experts(model)
    redirected = names_of_experts(getattr(getattr(model, "config", None), "model_type", ""))
    if (experts and name == "mlp") or name in redirected:
        hint += (
            " The routed experts of this model are whole parameters, not layers: name them in target_parameters "
            f"({', '.join(experts) or 'this one has none'})."
        )
        if redirected:
            taken = ", ".join(sorted(redirected))
            hint += f" PEFT takes the names {taken} for them, so no dense layer can be adapted by those."
    elif name in GENERAL:
        hint += f" {type(model).__name__} has no layers of that kind."
    raise UnknownNameError("target module", name, [*ends, *fitting, "all-linear"] if paths else [], hint=hint)

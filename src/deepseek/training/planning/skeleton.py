"""A model's structure without its numbers, as it will be when it trains.

:func:`skeleton` gives the model on torch's meta device (no memory, no computing) with the adapter and the head that
the recipe asks for; :func:`trainable` copies it for one candidate of the plan, with the precision, the dropout and the
adapted layers of that candidate, on a device of the caller's choice: a fake one to count bytes, a real one with random
weights to measure time. Copies are made by :func:`copy.deepcopy` with the tensors put into its memo beforehand, so
that tied weights stay tied and any module class works.
"""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.models.layers import transformer_layers
from deepseek.models.loading import HEADS
from deepseek.training.frozen.attention import register
from deepseek.training.frozen.boundary import idle_embedding
from deepseek.training.frozen.trunk import dropout_rates, narrowable, replaceable_attention
from deepseek.training.planning.settings import Settings

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from deepseek.training.recipe import TrainingRecipe


def skeleton(
    model: str | os.PathLike[str] | PretrainedConfig | PreTrainedModel, recipe: TrainingRecipe, task: Any = None
) -> PreTrainedModel:
    """The model on the meta device, with the recipe's head, without its adapter.

    Args:
        model: a name or path, a transformers config, or a loaded model (which is left as it is).
        recipe: names the task, which names the head.
        task: the task with what it learned from the data (the number of labels); ``None``: as the recipe says.

    Raises:
        UnknownNameError, ConfigError, FetchError: the name or the config is not one of a model with that head.
    """
    from deepseek.models.adapters.mixin import make_adaptable

    if isinstance(model, nn.Module):
        bare = copied(model, lambda t: torch.empty_like(t, device="meta"))
        return make_adaptable(bare) if hasattr(bare, "config") else bare
    import transformers

    task = task if task is not None else recipe.build_task()
    if task.head not in HEADS:
        raise UnknownNameError("head", task.head, HEADS)
    options = {k: v for k, v in task.model_options().items() if not (k == "num_labels" and not v)}
    if "num_labels" not in options:
        options = {}
    stored: set[str] | None = None
    if isinstance(model, str | os.PathLike):
        from deepseek.models.checkpoint import resolve

        folder = resolve(model).path
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **options)
        stored = _stored_names(folder)
    else:
        config = copy.deepcopy(model)
        for key, value in options.items():
            setattr(config, key, value)
    auto = getattr(transformers, HEADS[task.head])
    try:
        with torch.device("meta"):
            built = auto.from_config(config)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"a {type(config).__name__} cannot be built with the head {task.head!r}: {error}") from error
    adaptable = make_adaptable(built)
    adaptable.fresh_modules = tuple(_fresh(built, stored, task.head))
    return adaptable


def _stored_names(folder: Any) -> set[str] | None:
    """First parts of the weights' names in a folder's safetensors files; ``None`` if they are not to be read."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return {name.split(".", 1)[0] for name in json.loads(index.read_text())["weight_map"]}
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return None
    with safe_open(weights, framework="pt") as file:
        return {name.split(".", 1)[0] for name in file.keys()}  # noqa: SIM118 - not a dict


def _fresh(model: Any, stored: set[str] | None, head: str) -> Iterator[str]:
    """Top-level modules outside the backbone that the checkpoint does not bring."""
    tied = head == "causal-lm" and stored is None
    for name, child in model.named_children():
        weights = list(child.parameters())
        shared = any(p is q for p in weights for q in model.base_model.parameters())
        if name != model.base_model_prefix and weights and not shared and not tied and name not in (stored or ()):
            yield name


def copied(model: Any, tensor: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A deep copy of ``model`` in which every parameter and buffer is what ``tensor`` makes of it."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(tensor(parameter), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = tensor(buffer)
    return copy.deepcopy(model, memo)


def adapted(model: Any, recipe: TrainingRecipe, settings: Settings) -> Any:
    """Put into a model what trains: the adapter in the layers of ``settings``, the head, or everything; in place."""
    present = getattr(model, "_hf_peft_config_loaded", False)
    if recipe.adapter is not None and not present:
        config = recipe.adapter.lora()
        if settings.adapted_layers is not None and config.layers is None:
            count = len(transformer_layers(model)[1])
            config = config.model_copy(update={"layers": list(range(count - settings.adapted_layers, count))})
        with next(model.parameters()).device:
            model.add_adapter(recipe.adapter.name, config)
    elif recipe.training.train == "head":
        for path, parameter in model.named_parameters():
            parameter.requires_grad_(path.split(".", 1)[0] in model.fresh_modules)
    return model


def trainable(model: Any, settings: Settings, make: Callable[[torch.Size, torch.dtype], torch.Tensor]) -> Any:
    """A copy of an :func:`adapted` skeleton that is ready to train under ``settings``.

    Args:
        make: makes a tensor of a shape and a type, on the device that is wanted.
    """
    narrow = {id(weight) for weight in narrowable(model)} if settings.precision == "bfloat16" else set()

    def made(tensor: torch.Tensor) -> torch.Tensor:
        return make(tensor.shape, torch.bfloat16 if id(tensor) in narrow else tensor.dtype)

    return _finished(copied(model, made), settings, bool(narrow))


def finished(model: Any, settings: Settings) -> Any:
    """The same in place, for a real model."""
    narrow = narrowable(model) if settings.precision == "bfloat16" else []
    for weight in narrow:
        weight.data = weight.data.to(torch.bfloat16)
    return _finished(model, settings, bool(narrow))


def _finished(model: Any, settings: Settings, narrow: bool) -> Any:
    """What :func:`deepseek.training.frozen.prepare_trunk` does besides narrowing, for which it needs real numbers."""
    frozen = any(not p.requires_grad for p in model.parameters())
    if frozen and settings.trunk_dropout is not None:
        for module, name, _ in list(dropout_rates(getattr(model, "base_model", model))):
            setattr(module, name, settings.trunk_dropout)
    if narrow:
        if replaceable_attention(model):
            model.set_attn_implementation(register())
        for module in model.modules():
            if hasattr(module, "cast_input_dtype_enabled") and not getattr(module, "lora_variant", None):
                module.cast_input_dtype_enabled = False
    if settings.gradient_checkpointing:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transformers renames the method; both names work
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.disable_input_require_grads()  # as the training loop does
    if settings.cache_frozen and settings.adapted_layers is not None:
        aside = narrow and all(weight.device.type == "cpu" for weight in model.parameters())
        _let_rest(model, settings.adapted_layers, aside)
    return model.train()


def _let_rest(model: Any, adapted_layers: int, aside: bool) -> None:
    """Lower layers whose states are kept do not run; with ``aside`` they are not in memory, nor is the word table."""
    layers = transformer_layers(model)[1]
    for index in range(len(layers) - adapted_layers):
        layers[index] = PassThrough(None if aside else layers[index])
    embeddings = idle_embedding(model) if aside else []
    for embedding in embeddings:
        model.set_input_embeddings(NoLookup(embedding.embedding_dim))


class PassThrough(nn.Module):  # type: ignore[misc]
    """A layer whose states come from the cache: gives back what it gets. It may keep the layer, for its memory."""

    def __init__(self, layer: nn.Module | None) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states


class NoLookup(nn.Module):  # type: ignore[misc]
    """A word table that is not read: zeros of its shape, in bfloat16."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, self.width, dtype=torch.bfloat16, device=ids.device)


def narrow_bytes(model: Any, settings: Settings) -> int:
    """Bytes of an :func:`adapted` skeleton's weights as they are before any are set aside."""
    narrow = {id(weight) for weight in narrowable(model)} if settings.precision == "bfloat16" else set()
    return sum(
        t.numel() * (2 if id(t) in narrow else t.element_size()) for t in {*model.parameters(), *model.buffers()}
    )

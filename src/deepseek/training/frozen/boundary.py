"""The layer where training begins, and how a stored state takes the place of the layers below it.

Nothing here knows an architecture. What a layer returns is seen when it runs; what depends on trainable weights is
asked of autograd. So a model that hands more than the hidden states from layer to layer is found out, not assumed away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, DataError
from deepseek.models.layers import transformer_layers

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass
class Fed:
    """The state that the next forward pass takes; ``None`` lets the model run as it is."""

    state: torch.Tensor | None = None


class _Reached(Exception):  # noqa: N818 - not an error
    """The state is known; the layers above need not run."""


class Boundary:
    """The lowest layer of a model with something to train.

    Attributes:
        depth: frozen layers below it: it is ``layers[depth]``, or the head if ``depth`` is the number of layers.
        layers: all layers, from the input up.

    Raises:
        ConfigError: the model has no list of layers, or its first layer trains already.
    """

    def __init__(self, model: nn.Module) -> None:
        self.path, self.layers = transformer_layers(model)
        trains = [i for i, layer in enumerate(self.layers) if any(w.requires_grad for w in layer.parameters())]
        self.depth = trains[0] if trains else len(self.layers)
        if self.depth == 0:
            raise ConfigError(
                "states of frozen layers were to be kept, but the first layer trains already; adapt upper layers only "
                f"(adapter.layers, of 0 to {len(self.layers) - 1}), or train the head only (train: head)"
            )

    def state(self, model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """What enters the boundary, (batch, tokens, hidden); the layers above do not run.

        Raises:
            ConfigError: the forward pass went another way.
        """
        found: list[torch.Tensor] = []

        def enter(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(_hidden(args, kwargs))
            raise _Reached

        def leave(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            found.append(_first(output))
            raise _Reached

        if self.depth < len(self.layers):
            hook = self.layers[self.depth].register_forward_pre_hook(enter, with_kwargs=True)
        else:
            hook = self.layers[-1].register_forward_hook(leave)
        try:
            model(**batch)
        except _Reached:
            return found[0]
        finally:
            hook.remove()
        raise ConfigError(f"{type(model).__name__} did not run layer {self.depth} of {self.path!r}; turn the cache off")

    def forms(self, model: nn.Module, batch: Mapping[str, Any]) -> list[int]:
        """What each lower layer returns: 0 for a tensor, ``n`` for a tuple of ``n`` with the state first.

        Raises:
            ConfigError: a layer returns more than the hidden states.
        """
        forms: list[int] = []

        def leave(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            extra = [] if not isinstance(output, tuple) else [value for value in output[1:] if value is not None]
            if extra:
                raise ConfigError(
                    f"{type(layer).__name__} hands on more than its hidden states; its states cannot be kept: turn the "
                    "cache off"
                )
            forms.append(len(output) if isinstance(output, tuple) else 0)

        hooks = [layer.register_forward_hook(leave) for layer in self.layers[: self.depth]]
        try:
            self.state(model, batch)
        finally:
            for hook in hooks:
                hook.remove()
        return forms

    @contextmanager
    def replaced(self, model: nn.Module, forms: list[int], fed: Fed) -> Iterator[None]:
        """While open, a forward pass that was fed a state passes through the lower layers and takes the state.

        A pass that was not fed (scoring of validation rows) runs as ever.
        """
        lower = list(self.layers[: self.depth])
        embedding = input_embedding(model)
        at_end = self.depth == len(self.layers)
        hooks = [model.register_forward_hook(lambda *_: setattr(fed, "state", None), always_call=True)]
        if not at_end:
            hooks.append(self.layers[self.depth].register_forward_pre_hook(_entrance(fed), with_kwargs=True))
        try:
            for index, layer in enumerate(lower):
                layer._frozen_fed = fed
                layer._frozen_form = forms[index]
                layer._frozen_last = at_end and index == self.depth - 1
                # a bound method, so that a deep copy of the model calls the copy's layer
                layer.forward = MethodType(_pass_through, layer)
            if embedding is not None:
                embedding._frozen_fed = fed
                embedding.forward = MethodType(_no_lookup, embedding)
            yield
        finally:
            fed.state = None
            for hook in hooks:
                hook.remove()
            for layer in [*lower, *([embedding] if embedding is not None else [])]:
                for name in ("forward", "_frozen_fed", "_frozen_form", "_frozen_last"):
                    vars(layer).pop(name, None)


def input_embedding(model: nn.Module) -> nn.Module | None:
    """The frozen table in which a model looks its input ids up; ``None`` if it trains, or there is none."""
    from torch import nn

    try:
        found = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    frozen = type(found) is nn.Embedding and not found.weight.requires_grad
    return found if frozen else None


def idle_embedding(model: nn.Module) -> list[nn.Module]:
    """The table that fed passes do not look into; empty if something else reads it too, such as a tied head."""
    table = input_embedding(model)
    owners = [m for m in model.modules() if table is not None and m._parameters.get("weight") is table.weight]
    return owners if len(owners) == 1 else []


def _no_lookup(layer: Any, ids: torch.Tensor) -> torch.Tensor:
    """Zeros for a pass that takes stored states: it needs their shape, not a table of the vocabulary in memory."""
    fed: Fed = layer._frozen_fed
    if fed.state is None:
        return type(layer).forward(layer, ids)
    return layer.weight.new_zeros(*ids.shape, layer.embedding_dim, dtype=fed.state.dtype)


def _pass_through(layer: Any, *args: Any, **kwargs: Any) -> Any:
    fed: Fed = layer._frozen_fed
    if fed.state is None:
        return type(layer).forward(layer, *args, **kwargs)
    state = _hidden(args, kwargs)
    if layer._frozen_last:
        state = _instead(state, fed.state)
    return (state, *(None,) * (layer._frozen_form - 1)) if layer._frozen_form else state


def _entrance(fed: Fed) -> Any:
    def enter(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if fed.state is None:
            return None
        state = _instead(_hidden(args, kwargs), fed.state)
        if _reentrant(layer):
            state.requires_grad_(True)  # re-entrant checkpointing computes gradients only if an input asks for them
        return ((state, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": state})

    return enter


def _reentrant(layer: Any) -> bool:
    options = getattr(getattr(layer, "_gradient_checkpointing_func", None), "keywords", {})
    return bool(getattr(layer, "gradient_checkpointing", False) and options.get("use_reentrant", True))


def _instead(arriving: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    if arriving.shape != stored.shape:
        raise DataError(
            f"expected stored states of shape {tuple(arriving.shape)} (rows, tokens, hidden) for this batch, "
            f"received {tuple(stored.shape)}"
        )
    return stored


def _hidden(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    state: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return state


def _first(output: Any) -> torch.Tensor:
    state: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return state

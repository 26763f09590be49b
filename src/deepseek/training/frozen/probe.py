"""Whether the states below a boundary are functions of the row alone; each way in which they may not be, tried out.

A handful of rows goes through the model before anything is stored. That finds dropout that no attribute shows, inputs
that change each time they are collated, positions that shift with left padding, and architectures in which layers share
more than hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError
from deepseek.training.frozen.boundary import Boundary, Fed
from deepseek.training.frozen.trunk import dropout_rates

if TYPE_CHECKING:
    import torch
    from torch import nn

Collate = Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]]
_NOT_INPUTS = ("row", "labels")


@dataclass(frozen=True)
class Probe:
    """What running a few rows showed.

    Attributes:
        forms: what each lower layer returns (:meth:`Boundary.forms`).
        above: paths in the base model of modules that run only after the boundary.
        dtype: of the state, as the model has it.
        hidden: its width.
        tokens: of a row, for inputs without padding (images); ``None`` where lengths differ.
    """

    forms: list[int]
    above: set[str]
    dtype: torch.dtype
    hidden: int
    tokens: int | None


def probe(
    model: nn.Module, boundary: Boundary, items: Sequence[Mapping[str, Any]], collate: Collate, tolerance: float
) -> Probe:
    """Run a few rows, of different lengths if there are any.

    Args:
        tolerance: relative difference of states that counts as none; it follows from the precision.

    Raises:
        ConfigError: the states are not functions of the row alone; the message says what they depend on.
    """
    import torch

    batch = inputs_of(model, collate(items))
    _check_repeatable(batch, inputs_of(model, collate(items)))
    model.eval()
    _check_frozen(model, boundary, batch)
    with torch.no_grad():
        state = boundary.state(model, batch)
        mask = mask_of(model, batch, items, state.shape[1])
        model.train()
        noisy = _distance(boundary.state(model, batch), state, mask)
        model.eval()
        if noisy > tolerance:
            named = {
                f"{type(m).__name__}.{a} = {r:g}" for m, a, r in dropout_rates(getattr(model, "base_model", model)) if r
            }
            raise ConfigError(
                "states of frozen layers differ from one pass to the next, by "
                f"{', '.join(sorted(named)) or 'chance inside the model'}; the cache needs trunk_dropout: 0"
            )
        for number, item in enumerate(items):
            single = inputs_of(model, collate([item]))
            alone = boundary.state(model, single)[0]
            if mask is not None:
                alone = alone[mask_of(model, single, [item], alone.shape[0])[0]]  # type: ignore[index]
            together = state[number] if mask is None else state[number][mask[number]]
            if alone.shape != together.shape or _distance(alone[None], together[None], None) > tolerance:
                raise ConfigError(
                    "the state of a row depends on the padding around it (absolute positions that count padding?); "
                    "pad on the right, or turn the cache off"
                )
        forms = boundary.forms(model, batch)
        above = _check_sufficient(model, boundary, batch, state, mask, forms, tolerance)
    return Probe(forms, above, state.dtype, state.shape[2], state.shape[1] if mask is None else None)


def inputs_of(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """What of a batch the model computes states from, on the model's device.

    Raises:
        ConfigError: the batch lacks the model's main input.
    """
    name = main_input(model)
    if name not in batch:
        raise ConfigError(
            f"expected batches with the model's own input {name!r} to store states of, received "
            f"{', '.join(map(str, batch))}; turn the cache off for this task"
        )
    device = next(model.parameters()).device
    return {k: v.to(device) if hasattr(v, "to") else v for k, v in batch.items() if k not in _NOT_INPUTS}


def main_input(model: nn.Module) -> str:
    """The name of a model's main input: ``input_ids``, ``pixel_values``."""
    return str(getattr(model, "main_input_name", "input_ids"))


def mask_of(
    model: nn.Module, batch: Mapping[str, Any], items: Sequence[Mapping[str, Any]] | None, tokens: int
) -> torch.Tensor | None:
    """Where a batch's states are those of real tokens, (batch, tokens) of bool; ``None``: everywhere.

    Raises:
        ConfigError: a batch of ids without an attention mask of that shape whose rows are padded.
    """
    mask: torch.Tensor | None = batch.get("attention_mask")
    if mask is not None and mask.ndim == 2 and mask.shape[1] == tokens:
        return mask.bool()
    ids: torch.Tensor | None = batch.get("input_ids")
    if ids is None:
        return None
    if items is None or all(len(item.get("input_ids", ())) == ids.shape[1] for item in items):
        return ids.new_ones(ids.shape[0], tokens).bool()
    raise ConfigError(
        "expected an attention_mask (rows, tokens) with padded ids, received "
        f"{'none' if mask is None else tuple(mask.shape)}; turn the cache off for this task"
    )


def _check_repeatable(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for name, value in one.items():
        again = other[name]
        if hasattr(value, "shape") and (value.shape != again.shape or bool((value != again).any())):
            raise ConfigError(
                f"{name!r} of the same rows differs each time that it is made (random masking or augmentation), so "
                "there is no state to keep; turn the cache off for this task"
            )


def _check_frozen(model: nn.Module, boundary: Boundary, batch: Mapping[str, Any]) -> None:
    import torch

    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    with torch.enable_grad():
        state = boundary.state(model, batch)
        if not state.requires_grad or not trained:
            return
        gradients = torch.autograd.grad(state.float().sum(), [weight for _, weight in trained], allow_unused=True)
    below = [name for (name, _), gradient in zip(trained, gradients, strict=True) if gradient is not None]
    if below:
        raise ConfigError(
            f"states of frozen layers were to be kept, but below them train: {', '.join(below[:5])}; leave those out "
            "of the adapter, or turn the cache off"
        )


def _check_sufficient(
    model: nn.Module,
    boundary: Boundary,
    batch: Mapping[str, Any],
    state: torch.Tensor,
    mask: torch.Tensor | None,
    forms: list[int],
    tolerance: float,
) -> set[str]:
    """The whole model with and without the stored state; returns the modules that run only after the boundary."""
    base: nn.Module = getattr(model, "base_model", model)
    before: set[str] = set()
    after: set[str] = set()
    reached: list[bool] = []
    hooks = [
        module.register_forward_pre_hook(lambda m, a, path=path: (after if reached else before).add(path))
        for path, module in base.named_modules()
    ]
    last = boundary.depth == len(boundary.layers)
    edge = boundary.layers[boundary.depth - 1 if last else boundary.depth]
    if last:
        hooks.append(edge.register_forward_hook(lambda m, a, o: reached.append(True)))
    else:
        hooks.append(edge.register_forward_pre_hook(lambda m, a: reached.append(True), prepend=True))
    try:
        expected = model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    fed = Fed()
    with boundary.replaced(model, forms, fed):
        # padding is not stored, so nothing above may read it
        fed.state = state if mask is None else state.masked_fill(~mask[..., None], 0)
        received = model(**batch)
    for name in ("logits", "last_hidden_state"):
        one, two = expected.get(name), received.get(name)
        if one is None or two is None or not hasattr(one, "shape"):
            continue
        per_token = mask is not None and one.shape[:2] == mask.shape
        if _distance(two, one, mask if per_token else None) > tolerance:
            raise ConfigError(
                f"{type(model).__name__} does not compute the same from the stored states of layer {boundary.depth}: "
                "its layers share more than hidden states, or its head reads the state of padding (then pad on the "
                "other side); else turn the cache off"
            )
    return after - before


def _distance(received: torch.Tensor, expected: torch.Tensor, mask: torch.Tensor | None) -> float:
    one, two = (t.float() if mask is None else t[mask].float() for t in (received, expected))
    return float((one - two).norm() / two.norm().clamp_min(1e-12))

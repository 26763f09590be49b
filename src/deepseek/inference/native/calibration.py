"""What the linear layers of a model are given, on batches of the user's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from deepseek.inference.recording import Batch


@dataclass
class Seen:
    """Of the tokens that a linear layer was given, by column, float32 (K)."""

    reach: np.ndarray[Any, Any]
    """The largest absolute value."""
    total: np.ndarray[Any, Any]
    tokens: int

    @property
    def mean(self) -> np.ndarray[Any, Any]:
        return self.total / self.tokens


def seen(model: torch.nn.Module, batches: Sequence[Batch]) -> dict[str, Seen]:
    """By the names of the model's linear layers; padding does not count.

    Args:
        model: takes a batch as keywords.
    """
    import torch

    found: dict[str, Seen] = {}
    there: torch.Tensor | None = None

    def hook_of(name: str) -> Any:
        def hook(_: Any, given: tuple[torch.Tensor, ...]) -> None:
            tokens = given[0]
            if there is not None and tokens.shape[:-1] == there.shape:
                tokens = tokens[there]
            tokens = tokens.flatten(0, -2)
            reach, total = tokens.abs().amax(0).numpy(), tokens.sum(0).numpy()
            before = found.get(name)
            if before is None:
                found[name] = Seen(reach, total, len(tokens))
            else:
                before.reach = before.reach.clip(min=reach)
                before.total, before.tokens = before.total + total, before.tokens + len(tokens)

        return hook

    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    hooks = [module.register_forward_pre_hook(hook_of(name)) for name, module in linear]
    try:
        with torch.inference_mode():
            for batch in batches:
                mask = batch.get("attention_mask")
                there = None if mask is None else mask.bool()
                model(**batch)
    finally:
        for each in hooks:
            each.remove()
    return found

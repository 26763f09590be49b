"""Where the repeated layers of a model are, whatever its architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


def transformer_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of equal layers that a model's hidden states pass through, from the input up.

    It is the longest ``nn.ModuleList`` whose members all have one class; of equally long ones the first (the encoder
    of an encoder-decoder).

    Returns:
        The list's dotted path in ``model``, and the list itself.

    Raises:
        ConfigError: the model has no such list.
    """
    from torch import nn

    found: tuple[str, nn.ModuleList] | None = None
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) and len({type(m) for m in module}) == 1:
            nested = found is not None and path.startswith(found[0] + ".")
            if found is None or (len(module) > len(found[1]) and not nested):
                found = path, module
    if found is None:
        raise ConfigError(
            f"{type(model).__name__} has no list of equal layers; depth and cached layers need a model that has one"
        )
    return found

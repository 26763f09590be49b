"""Which adapter answers, and how all of them are taken off again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def wrappers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Adapter layers and wrapped modules (heads) with their paths, outer ones first."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for path, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            yield path, module


def set_active(model: nn.Module, names: list[str]) -> None:
    """Make exactly these adapters active; a head that belongs to none of them answers as in the base."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for _, module in wrappers(model):
        if isinstance(module, BaseTunerLayer):
            module.set_adapter(names)
        else:  # PEFT's own refuses an adapter that does not have this head
            module.set_adapter([name for name in names if name in module._adapters])


def set_enabled(model: nn.Module, enabled: bool) -> None:
    """Switch all adapters on or off, heads included (transformers' ``enable_adapters`` leaves the heads off)."""
    for _, module in wrappers(model):
        module.enable_adapters(enabled)


def enabled(model: nn.Module) -> bool:
    """Whether adapters change the answers."""
    return not any(module.disable_adapters for _, module in wrappers(model))


def remove_wrappers(model: nn.Module) -> None:
    """Put the base's modules back in the place of all adapter layers and wrapped heads."""
    for path, module in reversed(list(wrappers(model))):  # inner wrappers first
        base = module.base_layer if hasattr(module, "base_layer") else module.original_module
        setattr(parent_of(model, path), path.rpartition(".")[2], base)


def parent_of(model: nn.Module, path: str) -> nn.Module:
    """The module that holds the one at ``path``."""
    return model.get_submodule(path.rpartition(".")[0])


class Disabled:
    """What ``disable_adapters()`` returns: nothing to do with it, or ``with`` it the adapters come back at the end."""

    def __init__(self, model: Any, was_enabled: bool, trained: Iterable[str]) -> None:
        self._model, self._was_enabled, self._trained = model, was_enabled, frozenset(trained)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._was_enabled:
            self._model.enable_adapters()
            for name, weight in self._model.named_parameters():
                if weight.dtype.is_floating_point:
                    weight.requires_grad_(name in self._trained)

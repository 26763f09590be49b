"""Which weights train: the adapter, all of them, or only what the checkpoint did not bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepseek.training.recipe import AdapterRecipe


def choose_trained(model: PreTrainedModel, train: str, adapter: AdapterRecipe | None) -> bool:
    """Freeze and unfreeze as asked; add the adapter if the model does not have it. Returns whether a trunk is frozen.

    Raises:
        ConfigError: the settings contradict each other or do not fit the model.
    """
    names = model.adapter_names()
    if train != "auto" and (adapter is not None or names):
        which = adapter.name if adapter is not None else names[0]
        raise ConfigError(
            f"training.train is {train!r}, but there is an adapter {which!r}; leave the adapter out, or set train: auto"
        )
    if adapter is not None:
        if adapter.name not in names:
            model.add_adapter(adapter.name, adapter.lora())
        elif model.active_adapters() != [adapter.name]:
            model.set_adapter(adapter.name)
        return True
    if names:
        return True
    if train == "head":
        fresh = tuple(getattr(model, "fresh_modules", ()))
        if not fresh:
            raise ConfigError(
                "training.train is 'head', but the checkpoint brought every module of the model, so there is no fresh "
                "head to train; use an adapter, or train: all"
            )
        for name, weight in model.named_parameters():
            weight.requires_grad_(any(name == module or name.startswith(f"{module}.") for module in fresh))
        return True
    if getattr(model, "quantization_method", None) is not None:
        raise ConfigError("quantised weights cannot be trained; give the recipe an adapter")
    for weight in model.parameters():
        weight.requires_grad_(True)
    return False

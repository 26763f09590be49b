"""Adapters on a transformers model, by name.

The model stays an instance of its own transformers class: a subclass of the same name adds the behaviour, so
``isinstance``, ``save_pretrained`` and the config's ``architectures`` are as before. PEFT injects the layers
(transformers' ``PeftAdapterMixin``); files are PEFT's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.models.adapters.config import LoRAConfig
from deepseek.models.adapters.targets import resolve_targets

if TYPE_CHECKING:
    from transformers import PreTrainedModel


PEFT_PREFIX = "base_model.model."
"""What PEFT's files put in front of every weight's name."""


class AdapterMixin:
    """``add_adapter(name, config)`` and what goes with it, for any transformers model."""

    fresh_modules: tuple[str, ...] = ()
    """Top-level modules that the checkpoint did not bring (a new head): an adapter trains and stores them too."""

    base_name: str | None = None
    """Name of the checkpoint under the adapters, written into ``adapter_config.json``."""

    def add_adapter(self, adapter_name: Any, adapter_config: Any = None) -> None:
        """Add a fresh adapter under ``adapter_name`` and make it the active one; the other weights are frozen.

        Takes ``(name, LoRAConfig)``, and transformers' own order ``(peft_config, name)`` as well.

        Raises:
            ConfigError: the name is taken or not a name, or the config is of another type.
            UnknownNameError: a target module does not exist; the message lists those that do.
        """
        if not isinstance(adapter_name, str) and (adapter_config is None or isinstance(adapter_config, str)):
            adapter_name, adapter_config = adapter_config or "default", adapter_name
        if not isinstance(adapter_name, str) or not adapter_name.replace("_", "").replace("-", "").isalnum():
            raise ConfigError(f"expected an adapter name of letters, digits, '_' and '-', received {adapter_name!r}")
        if adapter_name in getattr(self, "peft_config", {}):
            raise ConfigError(
                f"the model has an adapter {adapter_name!r} already; pick another name or delete it first"
            )
        if isinstance(adapter_config, LoRAConfig):
            targets = resolve_targets(self, adapter_config.target_modules)
            peft_config = adapter_config.to_peft(targets, list(self.fresh_modules))
        elif hasattr(adapter_config, "peft_type"):
            peft_config = adapter_config
        else:
            raise ConfigError(
                f"expected a deepseek LoRAConfig or a PEFT config for adapter {adapter_name!r}, "
                f"received {type(adapter_config).__name__}"
            )
        super().add_adapter(peft_config, adapter_name)  # type: ignore[misc]
        self.peft_config[adapter_name].base_model_name_or_path = self.base_name  # type: ignore[attr-defined]

    def adapter_names(self) -> list[str]:
        """Names of all adapters on the model, active or not."""
        return list(getattr(self, "peft_config", {}))

    def trainable_share(self) -> float:
        """Trainable weights divided by all weights, adapters included."""
        trainable, total = self.count_parameters()
        return trainable / total

    def count_parameters(self) -> tuple[int, int]:
        """``(trainable, all)`` numbers of weights."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]  # type: ignore[attr-defined]
        return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)

    def save_adapter(self, path: str | os.PathLike[str], adapter_name: str) -> None:
        """Write one adapter to a folder in PEFT's format (``adapter_config.json``, ``adapter_model.safetensors``).

        ``peft.PeftModel.from_pretrained(base, path)`` and ``model.load_adapter(path)`` open it.
        """
        from safetensors.torch import save_file

        if adapter_name not in self.adapter_names():
            raise UnknownNameError("adapter", adapter_name, self.adapter_names())
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        state = self.get_adapter_state_dict(adapter_name)
        tensors = {f"{PEFT_PREFIX}{key}": value.detach().cpu().contiguous() for key, value in state.items()}
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = self.peft_config[adapter_name]  # type: ignore[attr-defined]
        before, config.inference_mode = config.inference_mode, True
        try:
            config.save_pretrained(folder)
        finally:
            config.inference_mode = before

    def restore_adapter(self, path: str | os.PathLike[str], adapter_name: str) -> None:
        """Read the weights of an adapter that is on the model already from a folder in PEFT's format.

        Raises:
            UnknownNameError: the model has no adapter of that name.
            ConfigError: the file has other weights than the adapter, e.g. of another rank.
        """
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        if adapter_name not in self.adapter_names():
            raise UnknownNameError("adapter", adapter_name, self.adapter_names())
        stored = load_file(Path(path) / "adapter_model.safetensors")
        state = {key.removeprefix(PEFT_PREFIX): value for key, value in stored.items()}
        expected = self.get_adapter_state_dict(adapter_name)
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in expected.items()}:
            raise ConfigError(
                f"{path} holds another adapter than {adapter_name!r}: the names or shapes of its weights differ"
            )
        set_peft_model_state_dict(self, state, adapter_name=adapter_name)

    def merge_adapter(self, adapter_name: str) -> PreTrainedModel:
        """Return a plain copy of the model with one adapter's update added into the weights; the model is unchanged."""
        import copy

        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import ModulesToSaveWrapper

        if adapter_name not in self.adapter_names():
            raise UnknownNameError("adapter", adapter_name, self.adapter_names())
        plain = copy.deepcopy(self)
        for path, module in list(plain.named_modules()):  # type: ignore[attr-defined]
            if isinstance(module, BaseTunerLayer):
                module.merge(safe_merge=True, adapter_names=[adapter_name])
                replacement = module.get_base_layer()
            elif isinstance(module, ModulesToSaveWrapper):
                saved = module.modules_to_save
                replacement = saved[adapter_name] if adapter_name in saved else module.original_module  # noqa: SIM401 - a ModuleDict has no get
            else:
                continue
            parent, _, attribute = path.rpartition(".")
            setattr(plain.get_submodule(parent), attribute, replacement)  # type: ignore[attr-defined]
        plain._hf_peft_config_loaded = False  # type: ignore[attr-defined]
        del plain.peft_config  # type: ignore[attr-defined]
        for weight in plain.parameters():  # type: ignore[attr-defined]
            weight.requires_grad_(True)
        return plain

    def get_adapter_state_dict(self, adapter_name: str | None = None, state_dict: Any = None) -> Any:
        """As in transformers, but without asking the hub whether the vocabulary was changed: it never is here."""
        from peft import get_peft_model_state_dict

        name = adapter_name or self.active_adapters()[0]  # type: ignore[attr-defined]
        return get_peft_model_state_dict(self, state_dict, adapter_name=name, save_embedding_layers=False)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # the subclass is made at run time, so a pickle names the transformers class and makes the subclass anew
        return _rebuild, (type(self).__mro__[2],), self.__dict__


_CLASSES: dict[type[Any], type[Any]] = {}


def _rebuild(base: type[Any]) -> Any:
    return object.__new__(adaptable_class(base))


def adaptable_class(base: type[Any]) -> type[Any]:
    """The subclass of a transformers model class that has :class:`AdapterMixin`'s methods."""
    if base not in _CLASSES:
        names = {"__module__": base.__module__, "__doc__": base.__doc__}
        _CLASSES[base] = type(base.__name__, (AdapterMixin, base), names)
    return _CLASSES[base]


def make_adaptable(model: PreTrainedModel) -> PreTrainedModel:
    """Give an existing transformers model the adapter methods, in place; returns the same object."""
    if not isinstance(model, AdapterMixin):
        model.__class__ = adaptable_class(type(model))
    return model

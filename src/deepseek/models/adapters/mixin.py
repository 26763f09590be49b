"""Adapters on a transformers model, by name.

The model stays an instance of its own transformers class: a subclass of the same name adds the behaviour, so
``isinstance``, ``save_pretrained`` and the config's ``architectures`` are as before. PEFT injects the layers
(transformers' ``PeftAdapterMixin``); files are PEFT's. Methods that transformers has too keep its signatures.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.models.adapters import base_state, switching
from deepseek.models.adapters.config import LoRAConfig
from deepseek.models.adapters.fingerprint import Fingerprint, fingerprint
from deepseek.models.adapters.resolving import resolve_config
from deepseek.models.adapters.storing import StoredAdapters

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class AdapterMixin(StoredAdapters):
    """``add_adapter(name, config)`` and what goes with it, for any transformers model."""

    merge_error: float = 0.0
    """On a merged model: the largest rounding error of a weight, sum in float32 against what was stored."""

    _fingerprint: Fingerprint | None = None
    _frozen_before: frozenset[str] | None = None

    def add_adapter(self, adapter_name: Any, adapter_config: Any = None) -> None:
        """Add a fresh adapter under ``adapter_name`` and make it the active one; the other weights are frozen.

        Takes ``(name, LoRAConfig)``, and transformers' own order ``(peft_config, name)`` as well.

        Raises:
            ConfigError: the name is taken or not a name, the config is of another type, a layer index is out of range,
                or an adapter changes the base (``init`` pissa or olora, ``bias``) and another is there.
            UnknownNameError: a target module or a pattern matches nothing; the message lists what there is.
        """
        if not isinstance(adapter_name, str) and (adapter_config is None or isinstance(adapter_config, str)):
            adapter_name, adapter_config = adapter_config or "default", adapter_name
        self._check_new_name(adapter_name)
        if isinstance(adapter_config, LoRAConfig):
            peft_config: Any = resolve_config(self, adapter_config, self.fresh_modules)
        elif hasattr(adapter_config, "peft_type"):
            peft_config = adapter_config
        else:
            raise ConfigError(
                f"expected a deepseek LoRAConfig or a PEFT config for adapter {adapter_name!r}, "
                f"received {type(adapter_config).__name__}"
            )
        self._put_on(adapter_name, peft_config)

    def adapter_names(self) -> list[str]:
        """Names of all adapters on the model, active or not."""
        return list(getattr(self, "peft_config", {}))

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Make one adapter (or several, their updates added) the active one; its weights train, the others' do not.

        A head that an adapter does not have answers as in the base.

        Raises:
            UnknownNameError: the model has no adapter of that name.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        for name in names:
            self._require(name)
        switching.set_active(self, names)

    def switch_adapter(self, adapter_name: str) -> None:
        """The same as :meth:`set_adapter` with one name."""
        self.set_adapter(adapter_name)

    def disable_adapters(self) -> switching.Disabled:
        """Answer as the plain base from now on; as ``with model.disable_adapters():`` until the block ends.

        Raises:
            ConfigError: there is no adapter on the model.
        """
        self._require_any()
        before = switching.enabled(self)
        trained = [name for name, weight in self.named_parameters() if weight.requires_grad]
        if before:
            switching.set_enabled(self, False)
            base_state.swap(self, self.__dict__.get("_base_kept", {}))
        return switching.Disabled(self, before, trained)

    def enable_adapters(self) -> None:
        """Undo :meth:`disable_adapters`; the active adapters answer and train again.

        Raises:
            ConfigError: there is no adapter on the model.
        """
        self._require_any()
        if not switching.enabled(self):
            switching.set_enabled(self, True)
            base_state.swap(self, self.__dict__.get("_base_kept", {}))

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Take adapters off the model. If the active one goes, the first that is left is active; if none is, the model
        is plain again (:meth:`unload_adapters`).

        Raises:
            UnknownNameError: the model has no adapter of that name.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        for name in names:
            self._require(name)
        left = [name for name in self.adapter_names() if name not in names]
        if not left:
            self.unload_adapters()
            return
        active = [name for name in self.active_adapters() if name in left]
        self.set_adapter(active or left[:1])
        super().delete_adapter(names)
        self.set_adapter(active or left[:1])

    def unload_adapters(self) -> None:
        """Take all adapters off: the plain model, its weights equal to the bit to what they were before."""
        if not self.adapter_names():
            return
        if switching.enabled(self):
            base_state.swap(self, self.__dict__.get("_base_kept", {}))
        switching.remove_wrappers(self)
        self._forget_adapters()

    def trainable_share(self) -> float:
        """Trainable weights divided by all weights, adapters included."""
        trainable, total = self.count_parameters()
        return trainable / total

    def count_parameters(self) -> tuple[int, int]:
        """``(trainable, all)`` numbers of weights; a weight stored in 4 bits counts as one."""
        trainable = total = 0
        for weight in self.parameters():  # type: ignore[attr-defined]
            state = getattr(weight, "quant_state", None)
            count = weight.numel() if state is None else state.shape.numel()
            trainable += count if weight.requires_grad else 0
            total += count
        return trainable, total

    def base_fingerprint(self) -> Fingerprint | None:
        """The fingerprint of the weights under the adapters (:mod:`deepseek.models.adapters.fingerprint`)."""
        return self._fingerprint if self.adapter_names() else fingerprint(self)

    def merge_adapter(
        self, adapter_name: str, *, in_place: bool = False, dtype: torch.dtype | None = None
    ) -> PreTrainedModel:
        """Return a plain model with one adapter's update added into the weights (in float32, then rounded).

        Args:
            in_place: change this model instead of a copy; it must have no other adapter.
            dtype: dtype of the weights of a quantised base, which is dequantised; ``None`` takes that of the
                embeddings. Layers of a base that is not quantised keep their own.

        Returns:
            The plain model; its ``merge_error`` is the largest rounding error of a weight.

        Raises:
            UnknownNameError: the model has no adapter of that name.
            ConfigError: ``in_place`` with other adapters on the model, or an update that is not finite.
        """
        from deepseek.models.adapters.merging import merge_into

        self._require(adapter_name)
        others = [name for name in self.adapter_names() if name != adapter_name]
        if in_place and others:
            raise ConfigError(
                f"merging {adapter_name!r} in place would change the base under {', '.join(others)}; delete the others "
                "first, or merge into a copy"
            )
        plain: Any = self if in_place else copy.deepcopy(self)
        if not switching.enabled(plain):
            plain.enable_adapters()
        plain.merge_error = merge_into(plain, adapter_name, dtype)
        plain._frozen_before = None
        plain._forget_adapters()
        return plain

    def _check_new_name(self, name: Any) -> None:
        if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
            raise ConfigError(f"expected an adapter name of letters, digits, '_' and '-', received {name!r}")
        if name in self.adapter_names():
            raise ConfigError(f"the model has an adapter {name!r} already; pick another name or delete it first")

    def _require(self, name: str) -> None:
        if name not in self.adapter_names():
            raise UnknownNameError("adapter", name, self.adapter_names())

    def _require_any(self) -> None:
        if not self.adapter_names():
            raise ConfigError("there is no adapter on the model; add_adapter or load_adapter puts one on it")

    def _remember_base(self) -> None:
        """Before the first adapter: what the base is, and which of its weights were frozen."""
        if not self.adapter_names():
            self._fingerprint = fingerprint(self)
            frozen = (n for n, w in self.named_parameters() if not w.requires_grad)
            self._frozen_before = frozenset(frozen)

    def _put_on(self, name: str, config: Any) -> None:
        """Inject a fresh adapter and make it active; on an error the model is as it was."""
        base_state.refuse_company(self, name, config)
        self._remember_base()
        kept = base_state.capture(self, config)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
                super().add_adapter(config, name)  # type: ignore[misc]
        except ValueError as error:
            self._take_off(name, kept)
            raise ConfigError(f"PEFT cannot put adapter {name!r} on {type(self).__name__}: {error}") from error
        self.peft_config[name].base_model_name_or_path = self.base_name
        if base_state.changes_base(config):
            self._base_kept = base_state.changed_only(self, kept)
        if base_state.starts_from_weights(config):
            self._first_factors = base_state.first_factors(self.get_adapter_state_dict(name))

    def _take_off(self, name: str, kept: dict[str, torch.Tensor]) -> None:
        """Remove an adapter that is on the model in part."""
        if [other for other in self.adapter_names() if other != name]:
            if name in self.adapter_names():
                self.delete_adapter(name)
            return
        switching.remove_wrappers(self)
        base_state.swap(self, kept)
        self._forget_adapters()

    def _forget_adapters(self) -> None:
        self._hf_peft_config_loaded = False
        frozen = self._frozen_before or frozenset()
        for name, weight in self.named_parameters():
            if weight.dtype.is_floating_point:
                weight.requires_grad_(name not in frozen)
        for attribute in ("peft_config", "_base_kept", "_first_factors", "_fingerprint", "_frozen_before"):
            self.__dict__.pop(attribute, None)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # the subclass is made at run time, so a pickle names the transformers class and makes the subclass anew
        return _rebuild, (type(self).__bases__[1],), self.__dict__


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

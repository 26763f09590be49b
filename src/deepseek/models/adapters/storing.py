"""The methods that bring adapters to disk and back; :class:`deepseek.models.adapters.mixin.AdapterMixin` has them."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

from deepseek.errors import ConfigError
from deepseek.models.adapters import base_state, store
from deepseek.models.adapters.fingerprint import Fingerprint


class StoredAdapters:
    """``save_adapter``, ``load_adapter`` and ``restore_adapter``."""

    fresh_modules: tuple[str, ...] = ()
    """Modules that the checkpoint did not bring (a new head): an adapter trains and stores them too."""

    base_name: str | None = None
    """Name of the checkpoint under the adapters, written into ``adapter_config.json``."""

    peft_config: dict[str, Any]
    adapter_names: Any
    active_adapters: Any
    named_parameters: Any
    _require: Any
    _check_new_name: Any
    _remember_base: Any
    _put_on: Any
    delete_adapter: Any
    set_adapter: Any
    eval: Any
    _first_factors: dict[str, Any]

    def base_fingerprint(self) -> Fingerprint | None:
        """The fingerprint of the weights under the adapters."""
        raise NotImplementedError

    def load_adapter(
        self,
        peft_model_id: Any = None,
        adapter_name: str | None = None,
        *args: Any,
        is_trainable: bool = False,
        force: bool = False,
        **options: Any,
    ) -> Any:
        """Put a stored adapter on the model; the first one is active at once, ``set_adapter`` switches to another.

        A local folder is checked first: its files, the base's fingerprint if the folder has one (:meth:`save_adapter`),
        and every shape. A hub name, or anything else that transformers' ``load_adapter`` takes, goes there unchecked.

        Args:
            peft_model_id: the folder.
            adapter_name: the name here; ``None`` is ``"default"``.
            is_trainable: go on training it; otherwise it is frozen and the model is put in evaluation mode.
            force: load it although it was made for another base.

        Raises:
            ConfigError: not an adapter's folder, made for another base, of other shapes, or the name is taken; the
                model is as it was.
        """
        folder = Path(peft_model_id) if isinstance(peft_model_id, str | os.PathLike) else None
        if args or options or folder is None or not (folder.exists() or isinstance(peft_model_id, os.PathLike)):
            self._remember_base()
            return super().load_adapter(  # type: ignore[misc]
                peft_model_id, adapter_name, *args, is_trainable=is_trainable, **options
            )
        from peft import PeftConfig
        from transformers.modeling_utils import LoadStateDictInfo

        name = adapter_name or "default"
        self._check_new_name(name)
        store.check_folder(folder)
        if not force:
            store.check_base(folder, self.base_name, self.base_fingerprint())
        store.check_shapes(folder, self)
        try:
            config = PeftConfig.from_pretrained(str(folder))
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"{folder / store.CONFIG} is not an adapter's configuration: {error}") from error
        config.inference_mode = not is_trainable
        active = self.active_adapters() if self.adapter_names() else [name]
        trained = {key for key, weight in self.named_parameters() if weight.requires_grad}
        self._put_on(name, config)
        try:
            self._fill(name, folder)
        except ConfigError:
            self.delete_adapter(name)
            if active != [name]:
                self.set_adapter(active)
            raise
        if active != [name]:
            self.set_adapter(active)
        if active != [name] or not is_trainable:
            for key, weight in self.named_parameters():
                if weight.dtype.is_floating_point:
                    weight.requires_grad_(active != [name] and key in trained)
        if not is_trainable:
            self.eval()
        return LoadStateDictInfo(**{f.name: set() for f in dataclasses.fields(LoadStateDictInfo)})  # nothing amiss

    def _fill(self, name: str, folder: Path) -> None:
        """Copy stored weights into an adapter of the same form.

        Raises:
            ConfigError: a weight is missing, has no place or another shape.
        """
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        stored = load_file(folder / store.WEIGHTS)
        state = {key.removeprefix(store.PEFT_PREFIX): value for key, value in stored.items()}
        kind = type(self).__name__
        try:
            result = set_peft_model_state_dict(self, state, adapter_name=name)
        except KeyError as error:
            raise ConfigError(f"the adapter in {folder} does not fit {kind}: its file lacks {error}") from error
        except RuntimeError as error:
            raise ConfigError(f"the adapter in {folder} does not fit {kind}: {error}") from error
        own = (f".{name}.", f".{name}")
        missing = sorted(
            key for key in result.missing_keys if ".lora_" in key and (own[0] in key or key.endswith(own[1]))
        )
        extra = sorted(result.unexpected_keys)
        if missing or extra:
            told = [f"its file lacks {', '.join(missing[:4])}"] if missing else []
            told += [f"the model has no place for {', '.join(extra[:4])}"] if extra else []
            raise ConfigError(f"the adapter in {folder} does not fit {kind}: {'; '.join(told)}")

    def save_adapter(self, path: str | os.PathLike[str], adapter_name: str) -> None:
        """Write one adapter to a folder in PEFT's format (``adapter_config.json``, ``adapter_model.safetensors``).

        ``peft.PeftModel.from_pretrained(base, path)`` and ``model.load_adapter(path)`` open it. Beside them goes
        ``deepseek_adapter.json``: the base's name and fingerprint. An adapter with ``init`` pissa or olora is written
        as the plain LoRA of twice the rank that gives the same answers on the unchanged base.

        Raises:
            UnknownNameError: the model has no adapter of that name.
        """
        from deepseek.models.quantization import quantization_of

        self._require(adapter_name)
        config = self.peft_config[adapter_name]
        state = self.get_adapter_state_dict(adapter_name)
        if base_state.starts_from_weights(config):
            config = copy.deepcopy(config)
            base_state.double_rank(config)
            state = base_state.as_plain_lora(state, self._first_factors)
        record = store.AdapterRecord(
            adapter=adapter_name,
            base=self.base_name,
            architecture=type(self).__name__,
            fingerprint=self.base_fingerprint(),
            quantization=quantization_of(self),
            modules_to_save=sorted(config.modules_to_save or ()),
            versions=store.library_versions(),
        )
        store.write_adapter(Path(path), state, config, record)

    def restore_adapter(self, path: str | os.PathLike[str], adapter_name: str) -> None:
        """Read the weights of an adapter that is on the model already from a folder in PEFT's format.

        Raises:
            UnknownNameError: the model has no adapter of that name.
            ConfigError: the file has other weights than the adapter, e.g. of another rank.
        """
        from safetensors import safe_open

        self._require(adapter_name)
        with safe_open(Path(path) / store.WEIGHTS, framework="pt") as file:
            stored = {
                key.removeprefix(store.PEFT_PREFIX): list(file.get_slice(key).get_shape())
                for key in file.keys()  # noqa: SIM118 - not a mapping
            }
        expected = self.get_adapter_state_dict(adapter_name)
        if stored != {key: list(value.shape) for key, value in expected.items()}:
            raise ConfigError(
                f"{path} holds another adapter than {adapter_name!r}: the names or shapes of its weights differ"
            )
        self._fill(adapter_name, Path(path))

    def get_adapter_state_dict(self, adapter_name: str | None = None, state_dict: Any = None) -> Any:
        """As in transformers, but without asking the hub whether the vocabulary was changed: it never is here."""
        from peft import get_peft_model_state_dict

        name = adapter_name or self.active_adapters()[0]
        state = get_peft_model_state_dict(self, state_dict, adapter_name=name, save_embedding_layers=False)
        # with trained biases PEFT adds a head's bias a second time, under a name that it does not read itself
        return {key: value for key, value in state.items() if ".modules_to_save." not in key}

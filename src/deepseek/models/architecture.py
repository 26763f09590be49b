"""A model that starts from random weights: its architecture, described by transformers' configuration fields.

What other parts decide is not described here: the tokenizer gives the size of the vocabulary and the special tokens,
the task the head and its labels. A description can be checked before there is a tokenizer, and without memory for the
weights: the model is built on PyTorch's meta device.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError

from deepseek.artifacts.cache import staged_directory
from deepseek.errors import ConfigError, UnknownNameError, nearest
from deepseek.models.loading import from_config, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

SPECIAL = ("pad", "bos", "eos", "cls", "sep", "mask")
_ELSEWHERE = {
    "vocab_size": "the tokenizer has it",
    **{f"{name}_token_id": "the tokenizer has it" for name in SPECIAL},
    **dict.fromkeys(("num_labels", "id2label", "label2id", "problem_type"), "the task has it"),
    **dict.fromkeys(("architectures", "transformers_version", "dtype", "return_dict"), "it is not of the architecture"),
}
"""Fields of transformers' configurations that are not to be given, and why."""


class ArchitectureConfig(BaseModel):
    """An architecture and the fields of its transformers configuration that differ from their defaults."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field(description="deepseek-base, or another model_type of transformers, such as bert or llama.")

    @property
    def fields(self) -> dict[str, Any]:
        """The configuration's fields that were given, by name."""
        return dict(self.model_extra or {})

    def build_config(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
        """The configuration of a model for a tokenizer.

        Raises:
            UnknownNameError: there is no such type.
            ConfigError: a field has a value that the architecture does not take.
        """
        kind = config_class(self.type)
        known = _parameters(kind)
        special = {name: getattr(tokenizer, f"{name}_token_id") for name in SPECIAL}
        if special["pad"] == special["eos"]:
            special["pad"] = None  # or the embedding of the token that ends a text would not be trained
        given = {f"{name}_token_id": number for name, number in special.items()}
        mine = {"vocab_size": len(tokenizer), **{name: number for name, number in given.items() if name in known}}
        return _made(kind, {**self.fields, **mine})

    def problems(self, head: str) -> dict[str, str]:
        """What is wrong with the description, for a model with a head, by field; ``"type"`` where no field is named.

        Args:
            head: a name of :data:`deepseek.models.loading.HEADS`.
        """
        try:
            kind = config_class(self.type)
        except UnknownNameError as error:
            return {"type": str(error)}
        known = _parameters(kind)
        found: dict[str, str] = {}
        for name in self.fields:
            if name in _ELSEWHERE:
                found[name] = f"leave out {name!r}: {_ELSEWHERE[name]}"
            elif name not in known:
                near = nearest(name, known)
                guess = f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(sorted(known))}"
                found[name] = f"unknown field {name!r} of {kind.__name__}; {guess}"
            elif wrong := _wrong_type(kind, name, self.fields[name]):
                found[name] = wrong
        if found:
            return found
        import torch

        try:
            with torch.device("meta"):
                from_config(_made(kind, self.fields), head=head)
        except ConfigError as error:
            return {"type": str(error).splitlines()[0]}  # transformers goes on with all that it knows
        return {}


def config_class(model_type: str) -> type[PreTrainedConfig]:
    """transformers' configuration class of a ``model_type``.

    Raises:
        UnknownNameError: there is no such type.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    import deepseek.models.deepseek_base  # noqa: F401 - registers its type

    try:
        found: type[PreTrainedConfig] = CONFIG_MAPPING[model_type]
    except KeyError as error:
        raise UnknownNameError("architecture", model_type, CONFIG_MAPPING.keys()) from error
    return found


def write_new_checkpoint(
    architecture: ArchitectureConfig,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    head: str,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write a model of random weights (torch's generator) and its tokenizer as a folder that transformers opens.

    Args:
        head: a name of :data:`deepseek.models.loading.HEADS`.
        options: further fields of the configuration, such as a task's labels.

    Raises:
        UnknownNameError, ConfigError: as :meth:`ArchitectureConfig.build_config` and
            :func:`deepseek.models.from_config`.
        OSError: the disk refuses; nothing is left behind.
    """
    config = architecture.build_config(tokenizer)
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None:
        tokenizer.model_max_length = int(limit)
    model = from_config(config, head=head, **(options or {}))
    with staged_directory(folder, replace=True) as stage:
        with quiet_transformers():
            model.save_pretrained(stage)
        tokenizer.save_pretrained(stage)


def _made(kind: type[PreTrainedConfig], fields: Mapping[str, Any]) -> PreTrainedConfig:
    from huggingface_hub.errors import StrictDataclassError

    try:
        return kind(**fields)
    except (StrictDataclassError, TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{kind.model_type!r} cannot be built so: {error}") from error


def _wrong_type(kind: type[PreTrainedConfig], name: str, value: Any) -> str:
    """What is wrong with the type of a field's value; empty if nothing, or if the field does not say its type."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(get_type_hints(kind.__init__)[name])
    except (KeyError, NameError, TypeError, PydanticUserError):
        return ""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        wanted = error.errors()[0]["msg"].removeprefix("Input should be ")
        return f"expected {wanted}, received {value!r:.80}"
    return ""


def _parameters(kind: type[PreTrainedConfig]) -> set[str]:
    """The names of the fields that a configuration class takes."""
    names = {name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "kwargs", "args")}
    return names | set(kind.attribute_map)

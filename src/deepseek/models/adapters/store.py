"""Adapters on disk: PEFT's two files, and a third that says which base they belong to.

``adapter_config.json`` and ``adapter_model.safetensors`` are PEFT's, and plain PEFT opens the folder. PEFT has no place
for more in them, so the base's fingerprint is in ``deepseek_adapter.json``, which PEFT does not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepseek.artifacts.cache import write_text
from deepseek.errors import ConfigError
from deepseek.models.adapters.fingerprint import Fingerprint

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
SIDECAR = "deepseek_adapter.json"
PEFT_PREFIX = "base_model.model."
"""What PEFT's files put in front of every weight's name."""


class AdapterRecord(BaseModel):
    """What ``deepseek_adapter.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = 1
    adapter: str = Field(description="The name that the adapter had on the model.")
    base: str | None = Field(description="Name of the checkpoint under it.")
    architecture: str = Field(description="Class of the model, with its head.")
    fingerprint: Fingerprint | None = Field(description="Of the base's weights; see fingerprint.py for what it covers.")
    quantization: str = Field("none", description="How the base was stored while the adapter trained.")
    modules_to_save: list[str] = Field(default_factory=list, description="Modules stored whole, such as a fresh head.")
    versions: dict[str, str] = Field(default_factory=dict)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that an adapter's weights depend on."""
    found = {}
    for name in ("deepseek", "torch", "transformers", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_adapter(folder: Path, state: Mapping[str, torch.Tensor], config: Any, record: AdapterRecord) -> None:
    """Write one adapter: weights, PEFT's configuration, and the record of the base."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{PEFT_PREFIX}{key}": value.detach().cpu().clone().contiguous() for key, value in state.items()}
    part = folder / f".{WEIGHTS}.tmp"
    try:
        save_file(tensors, part, metadata={"format": "pt"})
        part.replace(folder / WEIGHTS)
    finally:
        part.unlink(missing_ok=True)
    before, config.inference_mode = config.inference_mode, True
    try:
        config.save_pretrained(folder)
    finally:
        config.inference_mode = before
    write_text(folder / SIDECAR, record.model_dump_json(indent=2) + "\n")


def read_record(folder: Path) -> AdapterRecord | None:
    """The record beside an adapter; ``None`` for one from plain PEFT.

    Raises:
        ConfigError: the file is there and damaged.
    """
    path = folder / SIDECAR
    if not path.is_file():
        return None
    try:
        return AdapterRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is damaged: {error}; remove it to load the adapter with shape checks only"
        ) from error


def check_folder(folder: Path) -> None:
    """Raise :class:`ConfigError` if a folder lacks a file that an adapter has, or is not readable as one."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} is not an adapter's folder: it has no {name}")
    try:
        json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{folder / CONFIG} is damaged: {error}") from error


def check_base(folder: Path, base_name: str | None, base: Fingerprint | None) -> None:
    """Refuse an adapter that was trained on another base, if its folder says which.

    Raises:
        ConfigError: the fingerprints differ.
    """
    record = read_record(folder)
    if record is None or record.fingerprint is None or base is None or record.fingerprint.same_base(base):
        return
    raise ConfigError(
        f"the adapter in {folder} was made for another base: it belongs to {record.base or 'an unnamed model'} "
        f"(fingerprint {record.fingerprint}), and this model is {base_name or 'an unnamed model'} (fingerprint "
        f"{base}). "
        f"Load it on {record.base or 'its own base'}, or pass force=True if the two are meant to fit"
    )


def check_shapes(folder: Path, model: nn.Module) -> None:
    """Compare the shapes in an adapter's file with the layers of the model, before anything is put on it.

    Raises:
        ConfigError: a weight is of another size than its layer, or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    wrong: list[str] = []
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                shape = list(file.get_slice(key).get_shape())
                path = key.removeprefix(PEFT_PREFIX)
                expected = _expected(model, path)
                if any(len(shape) <= axis or shape[axis] != size for axis, size in expected.items()):
                    sizes = " and ".join(f"{size} on axis {axis}" for axis, size in expected.items())
                    wrong.append(f"{path} is {tuple(shape)} where the model asks for {sizes}")
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ConfigError(
            f"the adapter in {folder} does not fit {type(model).__name__}: {'; '.join(wrong[:3])}{more}. It was made "
            "for a model of another size or with another head"
        )


def _expected(model: nn.Module, key: str) -> dict[int, int]:
    """Axis to size, as far as the model says: ``lora_A`` is (r, in), ``lora_B`` (out, r), a whole module as it is."""
    for marker, axis, attribute in _SIDES:
        path, found, _ = key.partition(marker)
        if found:
            size = _features(_submodule(model, path), attribute)
            return {} if size is None else {axis: size}
    if ".lora_" in key:
        return {}
    path, _, name = key.rpartition(".")
    weight = getattr(_submodule(model, path), name, None)
    return {} if weight is None else dict(enumerate(weight.shape))


_SIDES = (
    (".lora_A.", 1, "in_features"),
    (".lora_B.", 0, "out_features"),
    (".lora_magnitude_vector", 0, "out_features"),
)


def _submodule(model: Any, path: str) -> Any:
    """A module of the plain model by path, whatever adapters are around it; ``None`` if there is none."""
    node = _inside(model)
    for part in path.split("."):
        node = _inside(getattr(node, part, None))
    return node


def _inside(node: Any) -> Any:
    while hasattr(node, "base_layer"):
        node = node.base_layer
    return getattr(node, "original_module", node)


def _features(layer: Any, attribute: str) -> int | None:
    from transformers.pytorch_utils import Conv1D

    if isinstance(layer, Conv1D):
        return int(layer.weight.shape[0 if attribute == "in_features" else 1])
    return getattr(layer, attribute, None)

"""ONNX Runtime itself, and its names of devices."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

from deepseek.errors import ConfigError, require

NEEDED = ("onnxruntime", "onnx", "onnxscript")
"""It runs with the first; the other two write its files."""
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "dml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Our names of kinds of devices and ONNX Runtime's providers, the one that ``auto`` takes first."""


def missing() -> list[str]:
    """What of :data:`NEEDED` is not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def onnxruntime() -> ModuleType:
    """The module ``onnxruntime``.

    Raises:
        MissingExtraError: it is not installed.
    """
    library = require("onnxruntime", "onnx")
    library.disable_telemetry_events()  # Windows builds report to their makers
    library.set_default_logger_severity(3)  # warnings are of graph nodes, which nobody who runs a model has written
    return library


def devices() -> tuple[str, ...]:
    """Kinds of devices that ONNX Runtime lists here, with a number where it takes one: ``("cuda:0", "cpu")``."""
    listed = set(onnxruntime().get_available_providers())
    found: list[str] = []
    for kind, provider in PROVIDERS.items():
        if provider not in listed:
            continue
        if kind in ("cuda", "rocm"):
            found += [f"{kind}:{number}" for number in range(_gpus(kind))]
        else:
            found.append(kind)
    return tuple(found)


def _gpus(kind: str) -> int:
    """GPUs of a kind that PyTorch sees: ONNX Runtime lists its providers whether or not there is a GPU."""
    import torch

    if kind == ("rocm" if torch.version.hip else "cuda") and torch.cuda.is_available():
        return int(torch.cuda.device_count())
    return 0


def provider_of(device: str) -> tuple[str, dict[str, str]]:
    """The provider and its options for a device of ours.

    Raises:
        ConfigError: ONNX Runtime has no such device here; the message lists those that it has.
    """
    here = devices()
    chosen = here[0] if device == "auto" else device
    kind, _, number = chosen.partition(":")
    if chosen not in here and f"{chosen}:0" not in here:
        raise ConfigError(
            f"device {device!r} is not available to ONNX Runtime; expected one of: auto, {', '.join(here)}"
        )
    return PROVIDERS[kind], {"device_id": number or "0"} if kind in ("cuda", "rocm") else {}

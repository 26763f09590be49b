"""The runtime: compiles a converted model for a device and runs batches of any shape on it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from deepseek.artifacts.cache import cache_dir
from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.openvino.conversion import ABOUT, MODEL, converted
from deepseek.inference.openvino.library import openvino
from deepseek.inference.runtime import Availability, Runtime
from deepseek.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Generated

DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""Our names of precisions, and OpenVINO's."""


class OpenVinoRuntime(Runtime):
    """OpenVINO, for encoders and classifiers: one forward pass a batch. ``auto`` is bfloat16 where it is native."""

    name: ClassVar[str] = "openvino"

    @classmethod
    def available(cls) -> Availability:
        if find_spec("openvino") is None:
            return Availability(False, (), "not installed; pip install 'deepseek[openvino]'")
        library = openvino()
        core = library.Core()
        devices = tuple(name.lower() for name in core.available_devices)
        names = "; ".join(str(core.get_property(name, "FULL_DEVICE_NAME")) for name in core.available_devices)
        return Availability(bool(devices), devices, f"OpenVINO {library.__version__.split('-')[0]}: {names}")

    def load(self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto") -> OpenVinoModel:
        library = openvino()
        if head == "causal-lm":
            raise ConfigError("the runtime 'openvino' answers with one pass and does not generate text; use 'torch'")
        if dtype not in ("auto", *DTYPES):
            raise UnknownNameError("dtype", dtype, ("auto", *DTYPES))
        core = library.Core()
        chosen = _device(device, core)
        precision = DTYPES.get(dtype) or _native(core, chosen)
        folder = converted(checkpoint, head)
        import torch

        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "CACHE_DIR": str(cache_dir() / "openvino" / "kernels"),
        }
        if chosen == "CPU":
            settings["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
        compiled = core.compile_model(folder / MODEL, chosen, settings)
        return OpenVinoModel(compiled, json.loads((folder / ABOUT).read_text(encoding="utf-8")))


def _device(device: str, core: Any) -> str:
    """OpenVINO's name of a device; ``auto`` is the CPU, which every machine has."""
    known = {name.lower(): name for name in core.available_devices}
    if device == "auto":
        return "CPU"
    if device.lower() not in known:
        raise ConfigError(f"device {device!r} is not available to OpenVINO; expected one of: auto, {', '.join(known)}")
    return str(known[device.lower()])


def _native(core: Any, device: str) -> str:
    return "bf16" if "BF16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES") else "f32"


class OpenVinoModel:
    """A compiled model as an executable. Threads may share it: each has a request of its own."""

    def __init__(self, compiled: Any, about: dict[str, Any]) -> None:
        self._compiled = compiled
        self._inputs: list[str] = about["inputs"]
        self._outputs: list[str] = about["outputs"]
        self._own = threading.local()
        self.context_length: int | None = about["context_length"]

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        import numpy as np
        import torch

        if unknown := sorted(set(batch) - set(self._inputs)):
            raise ConfigError(f"the converted model takes {', '.join(self._inputs)}, received {', '.join(unknown)} too")
        main = batch[self._inputs[0]]
        given = {name: np.ascontiguousarray(value.numpy()) for name, value in batch.items()}
        for name in self._inputs:
            if name not in given:  # what transformers assumes of an input that is left out
                given[name] = np.full(main.shape, int(name == "attention_mask"), np.int64)
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        request.infer(given, share_inputs=True)
        # the request's next run writes into the same memory
        return {name: torch.from_numpy(request.get_tensor(name).data.astype(np.float32)) for name in self._outputs}

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        raise ConfigError("the runtime 'openvino' does not generate text; use 'torch'")

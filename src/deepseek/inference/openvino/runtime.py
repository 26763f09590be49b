"""The runtime: compiles a converted model for a device and runs batches of any shape on it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deepseek.artifacts.cache import cache_dir
from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.conversion.copies import COPIES, INT4, INT8, copy_of, needed_copy
from deepseek.inference.conversion.feeding import arrays
from deepseek.inference.conversion.keeping import read_about
from deepseek.inference.openvino.conversion import MODEL, converted
from deepseek.inference.openvino.lengths import MASK, cut, longer
from deepseek.inference.openvino.library import native_precision, openvino, openvino_core
from deepseek.inference.recording import Batch
from deepseek.inference.runtime import Availability, Runtime
from deepseek.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Executable, Generated

DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""Our names of precisions, and OpenVINO's."""


@dataclass(frozen=True)
class NodeTime:
    """How long one node of a compiled model took: its name (a path of the traced model), its kind, its kernel."""

    name: str
    kind: str
    kernel: str
    seconds: float


class OpenVinoRuntime(Runtime):
    """OpenVINO. ``auto`` is bfloat16 where it is native; language models run on a generation core."""

    name: ClassVar[str] = "openvino"
    makes_copies: ClassVar[tuple[str, ...]] = COPIES

    @classmethod
    def available(cls) -> Availability:
        if find_spec("openvino") is None:
            return Availability(False, (), "not installed; pip install 'deepseek[openvino]'")
        library = openvino()
        core = openvino_core()
        devices = tuple(name.lower() for name in core.available_devices)
        names = "; ".join(str(core.get_property(name, "FULL_DEVICE_NAME")) for name in core.available_devices)
        return Availability(bool(devices), devices, f"OpenVINO {library.__version__.split('-')[0]}: {names}")

    @classmethod
    def precisions(cls, checkpoint: Checkpoint, head: str, device: str) -> tuple[str, ...]:
        if head == "causal-lm" or (device != "auto" and device.upper() not in openvino_core().available_devices):
            return ()
        native = native_precision(_device(device))
        found = ("float32",) if native == "f32" else ("float32", "bfloat16")
        return (*found, *(each for each in COPIES if copy_of(checkpoint, cls.name, each)))

    def quantize(
        self, checkpoint: Checkpoint, head: str, batches: Sequence[Batch], folder: Path, dtype: str = INT8
    ) -> None:
        if head == "causal-lm":
            raise ConfigError(
                "the runtime 'openvino' packs a language model's weights when it loads it (dtype 'auto', 'int8' or "
                "'int4'), so no copy is made"
            )
        from deepseek.inference.openvino.quantization import compressed, quantized

        if dtype == INT4:
            compressed(converted(checkpoint, head), folder)
        else:
            quantized(converted(checkpoint, head), batches, folder)

    def load(self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto") -> Executable:
        if head == "causal-lm":
            from deepseek.inference.generation.executable import load_executable

            return load_executable(checkpoint, core="openvino", device=device, dtype=dtype)
        return self.load_model(checkpoint, head, device=device, dtype=dtype)

    def load_model(
        self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto", counters: bool = False
    ) -> OpenVinoModel:
        """As :meth:`Runtime.load`, for all heads but language models' own.

        Args:
            counters: keep what :meth:`OpenVinoModel.node_times` tells, for some time.
        """
        if dtype not in ("auto", *DTYPES, *COPIES):
            raise UnknownNameError("dtype", dtype, ("auto", *DTYPES, *COPIES))
        if dtype in COPIES:
            return self.open_copy(needed_copy(checkpoint, self.name, dtype), device=device, counters=counters)
        return _compiled(_device(device), converted(checkpoint, head), DTYPES.get(dtype), counters)

    def open_copy(self, folder: Path, *, device: str = "auto", counters: bool = False) -> OpenVinoModel:
        # what is not quantised in it runs as fast as the device can
        made = _compiled(_device(device), folder, None, counters)
        made.lengthens = made.precision == "bfloat16"
        return made


def _compiled(device: str, folder: Path, precision: str | None, counters: bool) -> OpenVinoModel:
    """A model compiled for a device, by OpenVINO's name; ``precision`` ``None`` is the device's own."""
    import torch

    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision or native_precision(device),
        "PERFORMANCE_HINT": "LATENCY",
        "CACHE_DIR": str(cache_dir() / "openvino" / "kernels"),
        "PERF_COUNT": counters,
    }
    if device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
    compiled = openvino_core().compile_model(folder / MODEL, device, settings)
    return OpenVinoModel(compiled, read_about(folder), counters)


def _device(device: str) -> str:
    """OpenVINO's name of a device; ``auto`` is the CPU, which every machine has."""
    known = {name.lower(): name for name in openvino_core().available_devices}
    if device == "auto":
        return "CPU"
    if device.lower() not in known:
        raise ConfigError(f"device {device!r} is not available to OpenVINO; expected one of: auto, {', '.join(known)}")
    return str(known[device.lower()])


class OpenVinoModel:
    """A compiled model as an executable. Threads may share it: each has a request of its own.

    Attributes:
        lengthens: single rows, to few lengths; what is answered stays the same.
    """

    lengthens = False

    def __init__(self, compiled: Any, about: dict[str, Any], counters: bool = False) -> None:
        self._compiled, self._counters = compiled, counters
        self._inputs: list[str] = about["inputs"]
        self._outputs: list[str] = about["outputs"]
        self._own = threading.local()
        self.context_length: int | None = about["context_length"]

    @property
    def precision(self) -> str:
        """The precision that it computes in, by our name: ``"float32"``, ``"bfloat16"`` or ``"float16"``."""
        theirs = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        return next(ours for ours, name in DTYPES.items() if name == theirs)

    @property
    def device(self) -> str:
        """The device that it runs on, by our name."""
        return ", ".join(self._compiled.get_property("EXECUTION_DEVICES")).lower()

    def node_times(self) -> list[NodeTime]:
        """The nodes that ran, in their order, each with the mean of its times in all passes since the model was loaded.

        Raises:
            ConfigError: it was not loaded with ``counters``, or nothing ran yet.
        """
        request = getattr(self._own, "request", None)
        if request is None or not self._counters:
            raise ConfigError("node times need a model that was loaded with counters=True, and a pass through it")
        return [
            NodeTime(node.node_name, node.node_type, node.exec_type, node.real_time.total_seconds())
            for node in request.get_profiling_info()
            if node.status == node.Status.EXECUTED
        ]

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        import numpy as np
        import torch

        given = arrays(batch, self._inputs)
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        stretched = longer(given, self.context_length) if self.lengthens else None
        # without shared outputs OpenVINO copies each into what it returns, and here they are copied anyway: the
        # request's next run writes into the same memory
        request.infer(stretched or given, share_inputs=True, share_outputs=True)
        found = {name: torch.from_numpy(request.get_tensor(name).data.astype(np.float32)) for name in self._outputs}
        return cut(found, given[MASK].shape[1], stretched[MASK].shape[1]) if stretched else found

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        raise ConfigError("the runtime 'openvino' does not generate text; use 'torch'")

"""The generation core on OpenVINO, for CPUs: our graph, its kernels for packed weights and paged attention.

Precisions are of weights: ``int8`` and ``int4`` compute in bfloat16 where the processor does, ``float32`` is exact.
``auto`` takes 4 bits for matrices that lose nothing by it (they came from a 4-bit file) and 8 for the others.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.generation.core import CoreSettings
from deepseek.inference.generation.native.decoder import SOURCE
from deepseek.inference.generation.openvino.conversion import decoder
from deepseek.inference.generation.openvino.model import OpenVinoModel
from deepseek.inference.generation.paged.core import PagedCore, loaded
from deepseek.inference.openvino.library import native_precision, openvino
from deepseek.inference.runtime import Availability
from deepseek.models.checkpoint import Checkpoint

PRECISIONS = {
    "auto": ("auto", "fastest"),
    "float32": ("float", "f32"),
    "bfloat16": ("float", "bf16"),
    "int8": ("int8", "fastest"),
    "int4": ("int4", "fastest"),
}
"""``dtype`` to how weights are packed and what is computed in."""


class OpenVinoCore(PagedCore):
    """Continues sequences with OpenVINO on the CPU."""

    name: ClassVar[str] = "openvino"

    @classmethod
    def available(cls) -> Availability:
        if find_spec("openvino") is None:
            return Availability(False, (), "not installed; pip install 'deepseek[openvino]'")
        few = f"in OpenVINO: {reason}" if (reason := SOURCE.missing()) else "in C"
        version = openvino().__version__.split("-")[0]
        return Availability(True, ("cpu",), f"OpenVINO {version}, steps of few tokens {few}")

    @classmethod
    def precisions(cls, checkpoint: Checkpoint, device: str) -> tuple[str, ...]:
        return ("float32", "bfloat16", "auto") if device in ("auto", "cpu") else ()

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, *, device: str = "auto", dtype: str = "auto", settings: CoreSettings
    ) -> OpenVinoCore:
        if device not in ("auto", "cpu"):
            raise ConfigError(
                f"the generation core 'openvino' runs on the CPU, received device {device!r}; 'torch' and 'vllm' run "
                "on GPUs"
            )
        if dtype not in PRECISIONS:
            raise UnknownNameError("dtype", dtype, PRECISIONS)
        if settings.adapters:
            raise ConfigError(
                "the generation core 'openvino' has one set of weights for all requests, so it takes no adapters "
                f"({', '.join(settings.adapters)}); 'torch' runs several in one batch, and a bundle's weights have its "
                "adapter merged already"
            )
        model = _model(checkpoint, dtype)
        draft = None if settings.draft is None else _model(settings.draft, dtype)
        return cls(loaded(model, checkpoint, settings, draft=draft, ends=model.ends), settings)


def _model(checkpoint: Checkpoint, dtype: str) -> OpenVinoModel:
    packing, computed = PRECISIONS[dtype]
    if computed == "fastest":
        computed = native_precision("CPU")
    return OpenVinoModel(decoder(checkpoint, packing), checkpoint.name, precision=computed, cache_precision=computed)

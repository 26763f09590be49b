"""The runtime: runs int8 copies that bundles have for it, by AMX's tiles or AVX-512's lanes.

Each token is rounded with a scale of its own where it is multiplied, attention is in bfloat16, all else in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.conversion.copies import INT8, copy_of, needed_copy
from deepseek.inference.recording import Batch
from deepseek.inference.runtime import Availability, Runtime
from deepseek.models.checkpoint import Checkpoint
from deepseek.native.library import Source

if TYPE_CHECKING:
    from deepseek.inference.native.encoder import NativeEncoder

SOURCE = Source(
    Path(__file__).with_name("encoder.c"),
    needs=("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "fma"),
)


class NativeRuntime(Runtime):
    """BERT and its likes in 8 bits on CPUs with AVX-512 VNNI or AMX; ``auto`` is int8, of a copy that
    ``deepseek quantize`` made.
    """

    name: ClassVar[str] = "native"
    makes_copies: ClassVar[tuple[str, ...]] = (INT8,)

    @classmethod
    def available(cls) -> Availability:
        if reason := SOURCE.missing():
            return Availability(False, (), reason)
        return Availability(True, ("cpu",), "BERT's family in 8 bits, in C")

    @classmethod
    def precisions(cls, checkpoint: Checkpoint, head: str, device: str) -> tuple[str, ...]:
        able = device in ("auto", "cpu") and not SOURCE.missing()
        return (INT8,) if able and copy_of(checkpoint, cls.name) else ()

    def quantize(
        self, checkpoint: Checkpoint, head: str, batches: Sequence[Batch], folder: Path, dtype: str = INT8
    ) -> None:
        from deepseek.inference.native.weights import quantized

        quantized(checkpoint, head, batches, folder)

    def load(self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto") -> NativeEncoder:
        _refuse_device(device)
        if dtype not in ("auto", INT8):
            raise UnknownNameError(
                "dtype", dtype, ("auto", INT8), hint="The runtimes 'torch' and 'openvino' know others."
            )
        return self.open_copy(needed_copy(checkpoint, self.name))

    def open_copy(self, folder: Path, *, device: str = "auto") -> NativeEncoder:
        _refuse_device(device)
        compiled = SOURCE.library()
        if compiled is None:
            raise ConfigError(f"the runtime 'native' does not run here: {SOURCE.missing() or 'the compiler failed'}")
        import torch

        from deepseek.inference.native.encoder import NativeEncoder

        return NativeEncoder(compiled, folder, torch.get_num_threads())


def _refuse_device(device: str) -> None:
    if device not in ("auto", "cpu"):
        raise ConfigError(f"the runtime 'native' runs on the CPU, received device {device!r}")

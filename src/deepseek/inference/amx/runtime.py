"""The runtime: runs int8 copies that bundles have for it.

Each token is rounded with a scale of its own where it is multiplied, attention is in bfloat16, all else in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.conversion.copies import INT8, copy_of, needed_copy
from deepseek.inference.native.library import Source
from deepseek.inference.recording import Batch
from deepseek.inference.runtime import Availability, Runtime
from deepseek.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from deepseek.inference.amx.encoder import AmxEncoder

SOURCE = Source(
    Path(__file__).with_name("encoder.c"),
    needs=("avx512f", "avx512bw", "avx512vl", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"),
)


class AmxRuntime(Runtime):
    """BERT and its likes in 8 bits on CPUs with AMX; ``auto`` is int8, of a copy that ``deepseek quantize`` made."""

    name: ClassVar[str] = "amx"
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
        from deepseek.inference.amx.weights import quantized

        quantized(checkpoint, head, batches, folder)

    def load(self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto") -> AmxEncoder:
        _refuse_device(device)
        if dtype not in ("auto", INT8):
            raise UnknownNameError(
                "dtype", dtype, ("auto", INT8), hint="The runtimes 'torch' and 'openvino' know others."
            )
        return self.open_copy(needed_copy(checkpoint, self.name))

    def open_copy(self, folder: Path, *, device: str = "auto") -> AmxEncoder:
        _refuse_device(device)
        compiled = SOURCE.library()
        if compiled is None:
            raise ConfigError(f"the runtime 'amx' does not run here: {SOURCE.missing() or 'the compiler failed'}")
        if compiled.deepseek_encoder_permitted():
            raise ConfigError("the system does not give AMX to this process; the runtime 'openvino' runs without")
        import torch

        from deepseek.inference.amx.encoder import AmxEncoder

        return AmxEncoder(compiled, folder, torch.get_num_threads())


def _refuse_device(device: str) -> None:
    if device not in ("auto", "cpu"):
        raise ConfigError(f"the runtime 'amx' runs on the CPU, received device {device!r}")

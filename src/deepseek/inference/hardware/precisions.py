"""The precisions that a device multiplies in, and the calls that do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TILE_ROWS = 64
"""Random rows that are repeated: drawing all would take longer than multiplying them."""
_TF32_NEEDS = "PyTorch multiplies in TF32 on NVIDIA GPUs of compute capability 8.0 and later"


def precisions(device: torch.device) -> list[str]:
    """The precisions that are tried on ``device``."""
    if device.type == "cuda":
        return ["float32", "tf32", "bfloat16", "float16", "int8", "float8"]
    return ["float32", "bfloat16", "float16", "int8"]


def multiplications(precision: str, size: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """Calls that multiply two matrices of ``size`` x ``size``, by the name of the operation.

    The second matrix is transposed, as in a linear layer; cuBLAS's products of float8 and int8 take it only so. The
    numbers are random, because a GPU that multiplies zeros draws less power and runs faster than it would on a model.

    Raises:
        RuntimeError, TypeError, AttributeError: the device or this PyTorch does not have that precision.
    """
    import torch

    kind = dtype_of(precision, device)
    generator = torch.Generator(device).manual_seed(0)  # of its own, so that the caller's seed keeps its meaning

    def matrix() -> torch.Tensor:
        shape, place = (TILE_ROWS, size), {"device": device, "generator": generator}
        if precision == "int8":
            tile = torch.randint(-128, 128, shape, dtype=kind, **place)
        else:
            tile = torch.rand(shape, dtype=torch.float32, **place) - 0.5
        return tile.repeat(size // TILE_ROWS, 1).to(kind)  # narrowed last, for few operations take float8

    def result(kind: torch.dtype) -> torch.Tensor:
        return torch.empty(size, size, dtype=kind, device=device)

    left, weight = matrix(), matrix()
    right = weight.t()
    if precision == "int8":
        sums = result(torch.int32)
        return {"torch._int_mm": lambda: torch._int_mm(left, right, out=sums)}
    if precision == "float8":
        one, narrow = torch.ones((), dtype=torch.float32, device=device), result(torch.bfloat16)
        fast = {"out_dtype": torch.bfloat16, "use_fast_accum": True, "out": narrow}
        return {"torch._scaled_mm": lambda: torch._scaled_mm(left, right, one, one, **fast)}
    same = result(kind)
    calls: dict[str, Callable[[], object]] = {"torch.matmul": lambda: torch.matmul(left, right, out=same)}
    if precision == "float32" and device.type == "cpu" and torch.backends.mkldnn.is_available():
        # matmul takes MKL, which reached 0.10 TFLOP/s on one core of an AMD EPYC where oneDNN, which compiled models
        # take, reached 0.23; elsewhere MKL may be ahead
        calls["oneDNN linear"] = lambda: torch.ops.mkldnn._linear_pointwise(left, weight, None, "none", [], "")
    return calls


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """The type of the operands.

    Raises:
        RuntimeError: ``"tf32"`` on a device that would multiply in float32 without a word.
    """
    import torch

    if precision == "tf32":
        if torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
            raise RuntimeError(_TF32_NEEDS)
        return torch.float32
    if precision == "float8":
        # these GPUs have an older float8, with one zero: rocm.docs.amd.com, HIP, "FP8 numbers"
        old = torch.version.hip and "gfx94" in torch.cuda.get_device_properties(device).gcnArchName
        return torch.float8_e4m3fnuz if old else torch.float8_e4m3fn
    found: torch.dtype = getattr(torch, precision)
    return found


@contextlib.contextmanager
def float32_as(kind: str) -> Iterator[None]:
    """Multiply float32 as ``"ieee"`` or ``"tf32"`` inside the block, whatever the process has set."""
    import torch

    places = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [place.fp32_precision for place in places]
    try:
        places[0].fp32_precision = kind
        places[1].fp32_precision = "ieee"  # else the CPU's float32 may be narrowed to bfloat16
        yield
    finally:
        for place, setting in zip(places, before, strict=True):
            place.fp32_precision = setting

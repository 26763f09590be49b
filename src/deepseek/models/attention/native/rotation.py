"""One call of the C source: vectors turned by their positions' angles, in place."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from deepseek.models.attention.native.attention import seen_by_c, sources

SOURCES = sources(Path(__file__).with_name("rotation.c"))
_NUMBERS = ("texts", "tokens", "heads", "sides", "half", "threads")


class _Turn(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS),
        ("x", ctypes.c_void_p), *((f"x_{step}", ctypes.c_int64) for step in ("text", "token", "head", "side")),
        ("cosine", ctypes.c_void_p), ("sine", ctypes.c_void_p),
    ]  # fmt: skip


def native_rotates(x: Tensor) -> bool:
    """Whether the C source turns such vectors here, where no gradient is asked for."""
    return (
        not torch.is_grad_enabled()
        and seen_by_c(x)
        and x.stride(-1) == 1
        and SOURCES[x.dtype].function("deepseek_rotation", _Turn) is not None
    )


def native_rotation_(x_BTHSE: Tensor, tables: tuple[Tensor, Tensor]) -> None:
    """Turn the last ``2 * tables[0].shape[-1]`` features of (B, T, H, S, E) by their positions' angles, in place.

    Args:
        tables: cosines and sines, (T, F) each, in the vectors' precision.
    """
    function = SOURCES[x_BTHSE.dtype].function("deepseek_rotation", _Turn)
    assert function is not None
    cosine, sine = (table.contiguous() for table in tables)
    half = cosine.shape[-1]
    x = x_BTHSE[..., -2 * half :]
    texts, tokens, heads, sides, _ = x.shape
    turn = _Turn(
        texts=texts, tokens=tokens, heads=heads, sides=sides, half=half, threads=torch.get_num_threads(),
        x=x.data_ptr(), cosine=cosine.data_ptr(), sine=sine.data_ptr(),
        **{f"x_{step}": x.stride(at) for at, step in enumerate(("text", "token", "head", "side"))},
    )  # fmt: skip
    function(ctypes.byref(turn))

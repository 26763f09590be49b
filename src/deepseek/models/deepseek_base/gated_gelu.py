"""``gelu(gate) * up`` of a gated feed-forward network (GEGLU, arXiv:2002.05202) in one pass over memory."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from deepseek.models.attention.native.attention import seen_by_c, sources

SOURCES = sources(Path(__file__).with_name("gated_gelu.c"))


class _Gated(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int64), ("threads", ctypes.c_int64),
        ("gate", ctypes.c_void_p), ("up", ctypes.c_void_p), ("out", ctypes.c_void_p),
    ]  # fmt: skip


def gated_gelu(gate: Tensor, up: Tensor) -> Tensor:
    """``gelu(gate) * up``, two tensors of one shape; by C where that runs and no gradient is asked for."""
    if not native_gates(gate, up):
        return functional.gelu(gate) * up
    function = SOURCES[gate.dtype].function("deepseek_gated_gelu", _Gated)
    assert function is not None
    out = torch.empty_like(gate)
    call = _Gated(
        count=gate.numel(), threads=torch.get_num_threads(),
        gate=gate.data_ptr(), up=up.data_ptr(), out=out.data_ptr(),
    )  # fmt: skip
    function(ctypes.byref(call))
    return out


def native_gates(gate: Tensor, up: Tensor) -> bool:
    """Whether the C source computes it here."""
    return (
        not torch.is_grad_enabled()
        and seen_by_c(gate)
        and seen_by_c(up)
        and gate.dtype == up.dtype
        and gate.shape == up.shape
        and gate.is_contiguous()
        and up.is_contiguous()
        and SOURCES[gate.dtype].function("deepseek_gated_gelu", _Gated) is not None
    )

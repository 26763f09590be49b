"""The Triton kernels of :func:`deepseek.inference.kernels.weight_only_matmul`; importing this imports Triton.

A program takes some outputs and one split of the inputs; splits are added up by a second kernel, always in the same
order, so that an answer does not depend on which was done first. Of four bits a product of unsigned numbers is taken
group by group, and scale and zero act on its sums: far fewer than weights. Into float16 and bfloat16 the four bits go
without a conversion, as the lowest bits of a number (1024 or 128) whose mantissa they end; that number is taken off
with the zero.
"""

# ruff: noqa: ANN001, N803 - Triton's kernels are compiled: parameters have no types, names of constants are large
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from deepseek.inference.kernels.launching import on, programs_for
from deepseek.inference.kernels.weight_only import PackedInt4, PackedInt8

INT8_INPUTS = 128
"""Inputs of int8 that a program reads at a time."""
REDUCED = 256
"""Numbers that a program of the reduction writes."""


@dataclass(frozen=True)
class Tiling:
    """How a product is cut: outputs of a program, splits of the inputs (``None``: as many as fill the GPU)."""

    outputs: int = 64
    splits: int | None = None
    warps: int = 4
    stages: int = 3


@triton.jit
def int4_kernel(
    x, quants, scales, zeros, out, rows, inputs, outputs, groups, x_row,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, HALF: tl.constexpr,
    BASE: tl.constexpr, BASE_BITS: tl.constexpr,
) -> None:  # fmt: skip
    """One split's sums to ``out`` [splits, M, N], each over ``groups`` groups at the most."""
    split = tl.program_id(1)
    row = tl.arange(0, ROWS)
    column = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    half = tl.arange(0, HALF)
    given = row < rows
    there = column < outputs
    first = split * groups
    last = tl.minimum(first + groups, inputs // (2 * HALF))
    summed = tl.zeros([ROWS, OUTPUTS], tl.float32)
    for group in range(first, last):
        packed = tl.load(
            quants + (group * outputs + column.to(tl.int64))[:, None] * HALF + half[None, :],
            mask=there[:, None], other=0,
        )  # fmt: skip
        scale = tl.load(scales + group * outputs + column.to(tl.int64), mask=there, other=0.0).to(tl.float32)
        zero = tl.load(zeros + group * outputs + column.to(tl.int64), mask=there, other=0.0).to(tl.float32)
        at = x + row[:, None].to(tl.int64) * x_row + group * (2 * HALF) + half[None, :]
        low = tl.load(at, mask=given[:, None], other=0.0)
        high = tl.load(at + HALF, mask=given[:, None], other=0.0)
        kind: tl.constexpr = low.dtype
        packed = tl.trans(packed)
        products = tl.dot(low, ((packed & 15).to(tl.uint16) | BASE_BITS).to(kind, bitcast=True))
        products = tl.dot(high, ((packed >> 4).to(tl.uint16) | BASE_BITS).to(kind, bitcast=True), products)
        sums = tl.sum(low.to(tl.float32) + high.to(tl.float32), 1)
        summed += (products - sums[:, None] * (zero + BASE)[None, :]) * scale[None, :]
    place = (split * rows + row)[:, None].to(tl.int64) * outputs + column[None, :]
    tl.store(out + place, summed.to(out.dtype.element_ty), mask=given[:, None] & there[None, :])


@triton.jit
def int8_kernel(
    x, quants, scales, out, rows, inputs, outputs, tiles, x_row,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
) -> None:  # fmt: skip
    """One split's sums to ``out`` [splits, M, N], each over ``tiles`` times INPUTS inputs at the most."""
    split = tl.program_id(1)
    row = tl.arange(0, ROWS)
    column = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    given = row < rows
    there = column < outputs
    begin = split * tiles * INPUTS
    end = tl.minimum(begin + tiles * INPUTS, inputs)
    summed = tl.zeros([ROWS, OUTPUTS], tl.float32)
    for start in range(begin, end, INPUTS):
        inner = start + tl.arange(0, INPUTS)
        weights = tl.load(
            quants + column[:, None].to(tl.int64) * inputs + inner[None, :],
            mask=there[:, None] & (inner < end)[None, :], other=0,
        )  # fmt: skip
        some = tl.load(
            x + row[:, None].to(tl.int64) * x_row + inner[None, :],
            mask=given[:, None] & (inner < end)[None, :], other=0.0,
        )  # fmt: skip
        summed = tl.dot(some, tl.trans(weights).to(some.dtype), summed)
    summed *= tl.load(scales + column, mask=there, other=0.0)[None, :]
    place = (split * rows + row)[:, None].to(tl.int64) * outputs + column[None, :]
    tl.store(out + place, summed.to(out.dtype.element_ty), mask=given[:, None] & there[None, :])


@triton.jit
def sum_kernel(partial, out, numbers, splits, REDUCED: tl.constexpr) -> None:
    """The sum of ``partial`` [splits, numbers] to ``out``, in order."""
    place = tl.program_id(0) * REDUCED + tl.arange(0, REDUCED)
    there = place < numbers
    total = tl.zeros([REDUCED], tl.float32)
    for split in range(splits):
        total += tl.load(partial + split * numbers + place, mask=there, other=0.0)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=there)


INT4_TILING, INT8_TILING = Tiling(outputs=128, warps=4, stages=2), Tiling(outputs=32, warps=2, stages=4)
"""The fastest of those tried on an H100 for one row at the shapes of a Llama of 7 billion."""


def launch_matmul(x_MK: torch.Tensor, weight: PackedInt4 | PackedInt8, tiling: Tiling | None = None) -> torch.Tensor:
    """Run the kernels; arguments as of ``weight_only_matmul``, which checks them."""
    tiling = tiling or (INT4_TILING if isinstance(weight, PackedInt4) else INT8_TILING)
    x = x_MK if x_MK.stride(1) == 1 else x_MK.contiguous()
    rows, inputs = x.shape
    outputs = weight.outputs
    steps = -(-inputs // (weight.group if isinstance(weight, PackedInt4) else INT8_INPUTS))
    programs = -(-outputs // tiling.outputs)
    splits = tiling.splits or max(1, programs_for(x.device) // programs)
    each = -(-steps // min(splits, steps))
    splits = -(-steps // each)  # without those that would have nothing to do
    out = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    partial = out if splits == 1 else torch.empty(splits, rows, outputs, dtype=torch.float32, device=x.device)
    constants: dict[str, Any] = {"ROWS": padded_rows(rows), "OUTPUTS": tiling.outputs}
    settings = {"num_warps": tiling.warps, "num_stages": tiling.stages}
    kernel: Any  # what a decorator of Triton makes has no types
    if isinstance(weight, PackedInt4):
        kernel = int4_kernel
        constants |= {"HALF": weight.group // 2, **base_of(x.dtype)}
        arrays: tuple[torch.Tensor, ...] = (x, weight.quants_GNH, weight.scales_GN, weight.zeros_GN, partial)
    else:
        kernel = int8_kernel
        constants |= {"INPUTS": INT8_INPUTS}
        arrays = (x, weight.quants_NK, weight.scales_N, partial)
    with on(x.device):
        kernel[(programs, splits)](*arrays, rows, inputs, outputs, each, x.stride(0), **constants, **settings)
        if splits > 1:
            reduction: Any = sum_kernel
            numbers = rows * outputs
            reduction[(-(-numbers // REDUCED),)](partial, out, numbers, splits, REDUCED=REDUCED, num_warps=4)
    return out


def base_of(dtype: torch.dtype) -> dict[str, Any]:
    """The number whose mantissa four bits end, and its bits."""
    base, bits = (1024.0, 0x6400) if dtype == torch.float16 else (128.0, 0x4300)
    return {"BASE": base, "BASE_BITS": bits}


def padded_rows(rows: int) -> int:
    """As many as matrix units take, at least 16."""
    return max(16, int(triton.next_power_of_2(rows)))

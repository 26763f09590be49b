"""The Triton kernels of :func:`deepseek.inference.kernels.decode_attention`; importing this imports Triton.

A program takes one sequence, one key-value head with all heads that share it, and one split of the sequence. It goes
through its tokens in tiles with the running softmax of FlashAttention (arXiv 2205.14135), in float32 and to base 2.
Heads are padded to 16, the least that matrix units take; that work is free, since reading keys and values takes longer.
"""

# ruff: noqa: ANN001, N803 - Triton's kernels are compiled: parameters have no types, names of constants are large
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from deepseek.inference.kernels.launching import on, programs_for
from deepseek.inference.kernels.paged_attention import BLOCK

MOST_TOKENS = 64
TILE_BYTES = 16 << 10
"""Of keys, and again of values, that a program reads at a time: what registers and an MI200's 64 KB have room for."""
LEAST_SPLIT = 2 * MOST_TOKENS
"""Tokens below which cutting a sequence further costs more than it brings."""
MOST_SPLITS = 64
LOG2_E = 1.4426950408889634
OPTIONS: Mapping[str, int] = {"num_warps": 4, "num_stages": 2}


@triton.jit
def partial_kernel(
    q, k_cache, v_cache, block_tables, lengths, out, weight, scale,
    q_batch, q_head, k_block, k_token, k_head, v_block, v_token, v_head, table_row, splits,
    GROUP: tl.constexpr, PADDED: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
    WHOLE: tl.constexpr, EXACT: tl.constexpr,
) -> None:  # fmt: skip
    """One split's answer to ``out`` [B, H, splits, D] and the log2 of its weight to ``weight`` [B, H, splits].

    ``WHOLE``: there is one split, whose answer is the result; ``weight`` is not written.
    """
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    length = tl.load(lengths + row)
    share = tl.cdiv(tl.cdiv(length, splits), TILE) * TILE
    begin = split * share
    end = tl.minimum(begin + share, length)

    inner = tl.arange(0, PADDED)
    dims = tl.arange(0, DIM)
    heads = kv_head * GROUP + inner
    there = inner < GROUP
    queries = tl.load(q + row * q_batch + heads[:, None] * q_head + dims[None, :], mask=there[:, None], other=0.0)

    most = tl.full([PADDED], float("-inf"), tl.float32)
    total = tl.zeros([PADDED], tl.float32)
    summed = tl.zeros([PADDED, DIM], tl.float32)
    for start in range(begin, end, TILE):
        tokens = start + tl.arange(0, TILE)
        valid = tokens < end
        # a cache may have more numbers than 32 bits count
        block = tl.load(block_tables + row * table_row + tokens // BLOCK, mask=valid, other=0).to(tl.int64)
        within = tokens % BLOCK
        keys = tl.load(
            k_cache + (block * k_block + within * k_token + kv_head * k_head)[:, None] + dims[None, :],
            mask=valid[:, None], other=0.0,
        )  # fmt: skip
        values = tl.load(
            v_cache + (block * v_block + within * v_token + kv_head * v_head)[:, None] + dims[None, :],
            mask=valid[:, None], other=0.0,
        )  # fmt: skip
        if EXACT:
            products = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
        else:
            products = tl.dot(queries, tl.trans(keys)) * scale
        products = tl.where(valid[None, :], products, float("-inf"))
        higher = tl.maximum(most, tl.max(products, 1))
        shares = tl.exp2(products - higher[:, None])
        kept = tl.exp2(most - higher)
        total = total * kept + tl.sum(shares, 1)
        if EXACT:
            summed = summed * kept[:, None] + tl.dot(shares, values, input_precision="ieee")
        else:
            summed = summed * kept[:, None] + tl.dot(shares.to(values.dtype), values)
        most = higher

    # a split past the end of a short sequence has no tokens, and so no weight
    summed = summed / tl.where(total > 0, total, 1.0)[:, None]
    place = (row * (tl.num_programs(1) * GROUP) + heads) * splits + split
    tl.store(out + place[:, None] * DIM + dims[None, :], summed.to(out.dtype.element_ty), mask=there[:, None])
    if not WHOLE:
        logarithm = tl.where(total > 0, most + tl.log2(tl.where(total > 0, total, 1.0)), float("-inf"))
        tl.store(weight + place, logarithm, mask=there)


@triton.jit
def reduction_kernel(partial, weight, out, splits, DIM: tl.constexpr, MOST: tl.constexpr) -> None:
    """The splits' answers, [B * H, splits, D], by their weights to ``out`` [B * H, D]."""
    place = tl.program_id(0).to(tl.int64)
    dims = tl.arange(0, DIM)
    each = tl.arange(0, MOST)
    there = each < splits
    logarithms = tl.load(weight + place * splits + each, mask=there, other=float("-inf"))
    most = tl.max(logarithms, 0)
    # an empty sequence's splits all weigh nothing, and the difference of two infinities is no number
    weights = tl.exp2(logarithms - tl.where(most == float("-inf"), 0.0, most))
    answers = tl.load(partial + (place * splits + each)[:, None] * DIM + dims[None, :], mask=there[:, None], other=0.0)
    total = tl.sum(weights, 0)
    summed = tl.sum(answers * weights[:, None], 0) / tl.where(total > 0, total, 1.0)
    tl.store(out + place * DIM + dims, summed.to(out.dtype.element_ty))


def launch_attention(
    q_BHD: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
    splits: int | None = None,
    options: Mapping[str, int] = OPTIONS,
) -> torch.Tensor:
    """Run the kernels; arguments as of ``decode_attention``, which checks them.

    Args:
        splits: into how many each sequence is cut; ``None``: as many as fill the GPU.
        options: Triton's, of the first kernel.
    """
    batch, heads, width = q_BHD.shape
    kv_heads = k_cache.shape[2]
    if splits is None:
        # the longest that the tables have room for: reading the lengths would wait for the GPU
        splits = splits_for(batch * kv_heads, block_tables.shape[1] * BLOCK, programs_for(q_BHD.device))
    q, tables = _rows_of_numbers(q_BHD), _rows_of_numbers(block_tables)
    k_cache, v_cache = _rows_of_numbers(k_cache), _rows_of_numbers(v_cache)
    out = torch.empty(batch, heads, width, dtype=q.dtype, device=q.device)
    whole = splits == 1
    numbers = {"dtype": torch.float32, "device": q.device}
    partial = out if whole else torch.empty(batch, heads, splits, width, **numbers)
    weight = partial if whole else torch.empty(batch, heads, splits, **numbers)
    kernel: Any = partial_kernel  # what a decorator of Triton makes has no types
    reduction: Any = reduction_kernel
    with on(q.device):
        kernel[(batch, kv_heads, splits)](
            q, k_cache, v_cache, tables, lengths.contiguous(), partial, weight, scale * LOG2_E,
            q.stride(0), q.stride(1), *k_cache.stride()[:3], *v_cache.stride()[:3], tables.stride(0), splits,
            **constants_for(heads // kv_heads, width, whole=whole, exact=q.dtype == torch.float32),
            **options,
        )  # fmt: skip
        if not whole:
            reduction[(batch * heads,)](
                partial, weight, out, splits, DIM=width, MOST=triton.next_power_of_2(splits), num_warps=4
            )
    return out


def constants_for(group: int, width: int, *, whole: bool, exact: bool) -> dict[str, Any]:
    """What :func:`partial_kernel` is compiled for: ``group`` heads share a key-value head of ``width`` numbers."""
    padded = max(16, triton.next_power_of_2(group))
    # float32 is computed without matrix units, by code that takes many more registers
    tile = min(MOST_TOKENS, max(16, TILE_BYTES // (width * (8 if exact else 2))))
    shape = {"GROUP": group, "PADDED": padded, "DIM": width, "BLOCK": BLOCK, "TILE": tile}
    return {**shape, "WHOLE": whole, "EXACT": exact}


def splits_for(programs: int, longest: int, filling: int) -> int:
    """Into how many each sequence is cut: ``programs`` are there without, ``filling`` fill the GPU."""
    wanted = -(-filling // programs)
    return max(1, min(wanted, longest // LEAST_SPLIT, MOST_SPLITS))


def _rows_of_numbers(tensor: torch.Tensor) -> torch.Tensor:
    """The kernels step by strides, except in the last dimension."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()

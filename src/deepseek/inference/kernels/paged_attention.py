# ruff: noqa: N803, N806 - names end in their shape
"""Attention of one new token a sequence over a paged key-value cache: the step that long contexts make slow.

A sequence's keys and values lie in blocks of :data:`BLOCK` tokens anywhere in the cache, which its row of the block
table lists in order (vLLM, arXiv 2309.06180). Heads that share a key-value head are computed together, so that its
keys and values are read once (grouped-query attention, arXiv 2305.13245). Where there are too few sequences and heads
to fill a GPU, each sequence is cut into splits that are computed side by side and put together by a second kernel
(Flash-Decoding, Dao et al., 2023).

Not here: more than one new token a sequence, sliding windows, soft caps, caches of 8 bits.

Shapes: B sequences, H heads, K key-value heads (H is a multiple of K), D head dimension, N blocks of the cache, P
blocks a sequence at the most, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.errors import ConfigError
from deepseek.inference.kernels.needs import need_triton

if TYPE_CHECKING:
    import torch

BLOCK = 32
"""Tokens of a block of every paged cache here; what OpenVINO's kernels for CPUs have."""
HEAD_DIMS = (16, 32, 64, 128, 256)


def decode_attention(
    q_BHD: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Attend with one query a sequence and head: by Triton on a GPU, by :func:`reference_attention` elsewhere.

    Args:
        q_BHD: queries, float16, bfloat16 or float32.
        k_cache, v_cache: keys and values, ``[N, BLOCK, K, D]``, of the same precision.
        block_tables: int32 ``[B, P]``, a sequence's blocks in order; entries past its length are not read.
        lengths: int32 ``[B]``, tokens of each sequence, the new one among them; 0 is an empty place of the batch, whose
            answer is zeros.
        scale: what products are multiplied by, usually ``D ** -0.5``.

    Returns:
        ``[B, H, D]`` of the queries' precision.

    Raises:
        ConfigError: shapes or precisions do not fit together.
        MissingExtraError: the tensors are on a GPU, and Triton is not here.
    """
    check_attention(q_BHD, k_cache, v_cache, block_tables, lengths)
    if q_BHD.device.type != "cuda":  # what ROCm's devices are called too
        return reference_attention(q_BHD, k_cache, v_cache, block_tables, lengths, scale)
    need_triton()
    from deepseek.inference.kernels.triton_attention import launch_attention

    return launch_attention(q_BHD, k_cache, v_cache, block_tables, lengths, scale)


def reference_attention(
    q_BHD: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """The same in plain PyTorch, on any device; sums are in float32 at least."""
    import torch

    _batch, heads, width = q_BHD.shape
    kv_heads = k_cache.shape[2]
    exact = torch.promote_types(q_BHD.dtype, torch.float32)
    out_BHD = torch.zeros_like(q_BHD)
    for row, length in enumerate(lengths.tolist()):
        if not length:
            continue
        blocks = block_tables[row, : -(-length // BLOCK)].long()
        k_TKD, v_TKD = (cache[blocks].flatten(0, 1)[:length].to(exact) for cache in (k_cache, v_cache))
        q_KGD = q_BHD[row].to(exact).view(kv_heads, heads // kv_heads, width)
        weights_KGT = torch.softmax(torch.einsum("kgd,tkd->kgt", q_KGD, k_TKD) * scale, dim=-1)
        out_BHD[row] = torch.einsum("kgt,tkd->kgd", weights_KGT, v_TKD).reshape(heads, width).to(q_BHD.dtype)
    return out_BHD


def check_attention(
    q_BHD: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_tables: torch.Tensor,
    lengths: torch.Tensor,
) -> None:
    """See whether shapes and precisions fit together.

    Raises:
        ConfigError: they do not.
    """
    import torch

    if q_BHD.ndim != 3 or k_cache.ndim != 4 or k_cache.shape != v_cache.shape:
        raise ConfigError(
            f"expected queries [B, H, D] and two caches [N, {BLOCK}, K, D], received {list(q_BHD.shape)}, "
            f"{list(k_cache.shape)} and {list(v_cache.shape)}"
        )
    batch, heads, width = q_BHD.shape
    if k_cache.shape[1] != BLOCK or k_cache.shape[3] != width or heads % k_cache.shape[2]:
        raise ConfigError(
            f"expected caches [N, {BLOCK}, K, {width}] with {heads} a multiple of K, received {list(k_cache.shape)}"
        )
    if width not in HEAD_DIMS:
        raise ConfigError(f"expected a head dimension of {', '.join(map(str, HEAD_DIMS))}, received {width}")
    if block_tables.ndim != 2 or block_tables.shape[0] != batch or lengths.shape != (batch,):
        raise ConfigError(
            f"expected block tables [{batch}, P] and lengths [{batch}], received {list(block_tables.shape)} and "
            f"{list(lengths.shape)}"
        )
    if block_tables.dtype != torch.int32 or lengths.dtype != torch.int32:
        raise ConfigError(f"expected int32 block tables and lengths, received {block_tables.dtype} and {lengths.dtype}")
    if not q_BHD.dtype == k_cache.dtype == v_cache.dtype:
        raise ConfigError(
            f"expected queries and caches of one precision, received {q_BHD.dtype}, {k_cache.dtype}, {v_cache.dtype}"
        )

# ruff: noqa: N803, N806 - names end in their shape
"""Attention for training in bfloat16 on a CPU: plain matrix products on some rows at a time, computed again going back.

PyTorch's fused attention is slow there going backward. Milliseconds of one Zen 4 core with AVX512-BF16, forward and
backward:

======================== =========== ============== ====================
rows, heads x D, tokens  fused       plain products recomputed (this one)
======================== =========== ============== ====================
32, 12 x 32, 32          1.8 + 19.5  1.3 + 1.1      1.1 + 1.7
8, 12 x 64, 128          6.6 + 27.0  4.1 + 3.9      3.7 + 6.5
8, 12 x 64, 256          21.7 + 51.7 13.3 + 15.0    11.0 + 20.1
4, 12 x 64, 512          42.7 + 84.5 21.9 + 26.2    22.8 + 58.2
======================== =========== ============== ====================

Plain products keep the probabilities, (rows, heads, tokens, tokens), for the backward pass. Here they are computed
again (Chen et al. 2016, https://arxiv.org/abs/1604.06174), and rows go through in groups whose probabilities stay in
the core's cache, so that memory grows with tokens, not with their square.

It registers with transformers as an attention implementation, and hands what it does not cover (dropout, biases,
soft caps, decoding with a cache, other devices and dtypes) to transformers' SDPA function.

Shapes: B rows, H heads, K key heads, L tokens, D numbers a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "recomputed_sdpa"
_CACHED = 2**20
"""Probabilities that are computed at once: 2 MB of bfloat16."""
_UNCOVERED = ("softcap", "position_bias", "s_aux", "cache", "head_mask")


def register() -> str:
    """Make the implementation known to transformers; returns its name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def attention_forward(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers' models call it.

    Args:
        query: (B, H, L, D).
        key, value: (B, K, L, D), H a multiple of K.
        attention_mask: of bool, (B or 1, 1, L, L); ``None`` is causal if the module is, else everything.

    Returns:
        (B, L, H, D), and ``None`` where other implementations return probabilities.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    covered = (
        value.device.type == "cpu"
        and value.dtype == torch.bfloat16
        and dropout == 0.0
        and 1 < query.shape[2] == key.shape[2]
        and query.shape[0] == key.shape[0]
        and query.shape[1] % key.shape[1] == 0
        and query.shape[3] == value.shape[3]
        and (attention_mask is None or (attention_mask.dtype == torch.bool and attention_mask.shape[1] == 1))
        and all(kwargs.get(name) is None for name in _UNCOVERED)
    )
    if not covered:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    mask = attention_mask
    if mask is None and causal:
        mask = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()[None, None]
    scale = scaling if scaling is not None else query.shape[3] ** -0.5
    out: torch.Tensor = _function().apply(query.to(value.dtype), key.to(value.dtype), value, mask, scale)
    return out, None


@cache
def _function() -> Any:
    import torch

    class Recomputed(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(
            ctx: Any,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            mask: torch.Tensor | None,
            scale: float,
        ) -> torch.Tensor:
            # the flat copies are kept, not the originals: those go, since a frozen projection keeps no output
            ctx.shapes = query.shape, key.shape
            ctx.scale = scale
            q_NMD, k_NSD, v_NSD = _flat(query, query.shape[1] // key.shape[1]) * scale, _flat(key), _flat(value)
            ctx.save_for_backward(q_NMD, k_NSD, v_NSD, mask)
            rows, heads, length, width = query.shape
            out_BLHD = query.new_empty(rows, length, heads, width)
            for part, flat in _parts(query.shape, key.shape[1]):
                p_NMS = _probabilities(q_NMD[flat], k_NSD[flat], mask, part, heads)
                out_BLHD[part].copy_(torch.bmm(p_NMS, v_NSD[flat]).view(-1, heads, length, width).transpose(1, 2))
            return out_BLHD

        @staticmethod
        def backward(ctx: Any, gradient_BLHD: torch.Tensor) -> Any:
            q_NMD, k_NSD, v_NSD, mask = ctx.saved_tensors
            (rows, heads, length, width), (_, key_heads, _, _) = ctx.shapes
            # stored as (B, L, H, D): what the projections' gradients are computed from, without a copy
            d_query, d_key, d_value = (
                gradient_BLHD.new_empty(rows, length, n, width).transpose(1, 2) for n in (heads, key_heads, key_heads)
            )
            for part, flat in _parts((rows, heads, length, width), key_heads):
                p_NMS = _probabilities(q_NMD[flat], k_NSD[flat], mask, part, heads)
                g_NMD = _flat(gradient_BLHD[part].transpose(1, 2), heads // key_heads)
                d_value[part].copy_(torch.bmm(p_NMS.transpose(1, 2), g_NMD).view_as(d_value[part]))
                dp_NMS = torch.bmm(g_NMD, v_NSD[flat].transpose(1, 2))
                dw_NMS = torch.ops.aten._softmax_backward_data(dp_NMS, p_NMS, -1, p_NMS.dtype)
                d_key[part].copy_(torch.bmm(dw_NMS.transpose(1, 2), q_NMD[flat]).view_as(d_key[part]))
                dq_NMD = torch.bmm(dw_NMS, k_NSD[flat]).mul_(ctx.scale)
                d_query[part].copy_(dq_NMD.view_as(d_query[part]))
            return d_query, d_key, d_value, None, None

    return Recomputed


def _parts(shape: Sequence[int], key_heads: int) -> Iterator[tuple[slice, slice]]:
    """Slices of rows, and the same of rows x key heads."""
    rows, heads, length, _ = shape
    size = max(1, _CACHED // (heads * length * length))
    for start in range(0, rows, size):
        stop = min(rows, start + size)
        yield slice(start, stop), slice(start * key_heads, stop * key_heads)


def _flat(tensor: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """(B, H, L, D) as (B H, L, D), or (B K, groups x L, D) so that the queries of one key head lie together."""
    rows, heads, length, width = tensor.shape
    return tensor.reshape(rows * heads // groups, groups * length, width)


def _probabilities(
    q_NMD: torch.Tensor, k_NSD: torch.Tensor, mask: torch.Tensor | None, part: slice, heads: int
) -> torch.Tensor:
    """(B K, groups x L, L) from scaled queries; ``mask`` is where they attend to."""
    import torch

    w_NMS = torch.bmm(q_NMD, k_NSD.transpose(1, 2))
    if mask is not None:
        seen = mask if mask.shape[0] == 1 else mask[part]
        # adding is several times faster than filling by a mask that is broadcast over heads
        bias = torch.zeros(seen.shape, dtype=w_NMS.dtype).masked_fill_(~seen, torch.finfo(w_NMS.dtype).min)
        w_NMS.view(part.stop - part.start, heads, *seen.shape[2:]).add_(bias)
    return torch.softmax(w_NMS, -1)

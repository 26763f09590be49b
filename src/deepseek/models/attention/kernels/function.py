"""Gated block attention by the Triton kernels as one differentiable function; importing this imports Triton."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.kernels.launches import Attention, backward, forward
from deepseek.models.attention.kernels.lists import Picks, Slots


def kernel_attention(
    q_BHTE: Tensor,
    k_BHTE: Tensor,
    v_BHTD: Tensor,
    s_BHNC: Tensor,
    r_HRC: Tensor,
    layout: BlockLayout,
    *,
    scale: float,
    chosen: Tensor,
    key_mask_BT: Tensor | None = None,
) -> Tensor:
    """As :func:`deepseek.models.attention.sparse.sparse_attention`, which checks and calls this on a GPU.

    Differentiable once, in q, k, v, s and r. Queries that no key is left for get the mean of the values that the mask
    hides, and have no gradient. A block that ``chosen`` names twice for one query counts twice.
    """
    out: Tensor = _KernelAttention.apply(q_BHTE, k_BHTE, v_BHTD, s_BHNC, r_HRC, chosen, key_mask_BT, layout, scale)
    return out


class _KernelAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, chosen, key_mask, layout, scale = inputs
        call = Attention.of(tensors, layout, scale, chosen, key_mask)
        out, mass = forward(call)
        picks = call.picks
        ctx.save_for_backward(
            call.q, call.k, call.v, call.s, call.r, call.mask, call.slots.slots, call.slots.counts,
            *((picks.picks, picks.order, picks.starts) if picks else (None, None, None)), out, mass,
        )  # fmt: skip
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, s, r, mask, slots, counts, picks, order, starts, out, mass = ctx.saved_tensors
        call = Attention(
            q=q, k=k, v=v, s=s, r=r, mask=mask, layout=ctx.layout, scale=ctx.scale, slots=Slots(slots, counts),
            picks=None if picks is None else Picks(picks, order, starts),
        )  # fmt: skip
        return (*backward(call, out, mass, grad), None, None, None, None)

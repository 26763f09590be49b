"""Gated block attention as one differentiable function of linear memory, from its two parts.

``chosen`` with a choice for each query block goes through :mod:`.gathered` alone; with a choice for each token the
neighbourhood and the sinks go through :mod:`.gathered`, the chosen blocks through :mod:`.scattered`. On a GPU both are
computed by :mod:`.kernels`, on CPUs with AVX-512 (bfloat16: with AMX's tiles) by :mod:`.native`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from deepseek.errors import ConfigError
from deepseek.models.attention import gathered, scattered
from deepseek.models.attention.blocks import BlockLayout, to_blocks
from deepseek.models.attention.kernels.available import kernels_take
from deepseek.models.attention.native.attention import native_attention, native_takes
from deepseek.models.attention.native.backward import native_differentiates, native_gradients

FEW = 64
"""Blocks up to which the choice of all is kept: their square, in numbers of 64 bits."""
TINY = 1e-30
"""The least sum of weights: of a query that sees nothing, the sum is 0."""


def sparse_attention(
    q_BHTE: Tensor,
    k_BHTE: Tensor,
    v_BHTD: Tensor,
    s_BHNC: Tensor,
    r_HRC: Tensor,
    layout: BlockLayout,
    *,
    scale: float,
    chosen: Tensor | None = None,
    key_mask_BT: Tensor | None = None,
) -> Tensor:
    """What :func:`deepseek.models.attention.reference.reference_attention` gives, in O(T log T) time and O(T) memory.

    With ``chosen=None`` all blocks are attended to: O(T^2) time, memory still O(T).

    Raises:
        ConfigError: a causal layout with a choice for query blocks, which would let a token see later queries.
    """
    tokens = q_BHTE.shape[2]
    blocks = layout.blocks(tokens)
    if chosen is not None and layout.causal and chosen.shape[2] != tokens:
        raise ConfigError(
            f"causal attention needs a choice for each of {tokens} tokens, received one for {chosen.shape[2]} blocks"
        )
    if chosen is None:
        kept = blocks <= FEW and native_takes(q_BHTE, v_BHTD, layout)  # else tensors may be fake
        far = _few_far(layout, blocks) if kept else _all_far(layout, blocks, q_BHTE.device)
        chosen = far.expand(*q_BHTE.shape[:2], -1, -1)
    if kernels_take(q_BHTE, k_BHTE, v_BHTD, r_HRC, layout, scale):
        from deepseek.models.attention.kernels.function import kernel_attention

        return kernel_attention(
            q_BHTE, k_BHTE, v_BHTD, s_BHNC, r_HRC, layout, scale=scale, chosen=chosen, key_mask_BT=key_mask_BT
        )
    out: Tensor = _SparseAttention.apply(
        q_BHTE, k_BHTE, v_BHTD, s_BHNC.to(k_BHTE.dtype), r_HRC.to(k_BHTE.dtype), chosen, key_mask_BT, layout, scale
    )
    return out


@lru_cache(maxsize=64)
def _few_far(layout: BlockLayout, blocks: int) -> Tensor:
    """As :func:`_all_far`, on the CPU, made once for all short texts of a length."""
    with torch.inference_mode(mode=False):
        return _all_far(layout, blocks, torch.device("cpu"))


def _all_far(layout: BlockLayout, blocks: int, device: torch.device) -> Tensor:
    own = torch.arange(blocks, device=device)[:, None]
    every = torch.arange(layout.sinks, max(blocks, layout.sinks), device=device).expand(blocks, -1)
    return torch.where(layout.is_choosable(own, every), every, -1)


class _SparseAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        q, _, v, _, _, chosen, _, layout, scale = inputs
        tokens = q.shape[2]
        ctx.layout, ctx.scale = layout, scale
        ctx.by_token = chosen.shape[2] == tokens and tokens != layout.blocks(tokens)
        if native_takes(q, v, layout):
            out, mass = native_attention(*inputs[:-1], scale=scale)
        else:
            out, mass = _composed((q * scale, *inputs[1:-1]), ctx.by_token, needs_mass=any(ctx.needs_input_grad))
        ctx.save_for_backward(*inputs[:-2], out, mass)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, s, r, chosen, key_mask, out, mass = ctx.saved_tensors
        if native_differentiates(q, v, ctx.layout):
            inputs = (q, k, v, s, r, chosen, key_mask)
            return *native_gradients(inputs, out, mass, grads[0], ctx.layout, scale=ctx.scale), None, None, None, None
        batch, heads, tokens, _ = q.shape
        blocks = _in_blocks(q * ctx.scale, k, v, s, r, chosen, key_mask, ctx.layout)
        out = to_blocks(out.flatten(0, 1), ctx.layout.width)
        grad = to_blocks(grads[0].flatten(0, 1), ctx.layout.width).to(out.dtype)
        delta = (grad.float() * out.float()).sum(-1)
        into = gathered.Gradients.of(blocks)
        gathered.backward(blocks, mass, delta, grad, into)
        if ctx.by_token:
            for group, some, head, room in _by_head(blocks, chosen, tokens):
                scattered.backward(
                    head,
                    mass[group].flatten()[some],
                    delta[group].flatten()[some],
                    grad[group].flatten(0, 1)[some],
                    scattered.HeadGradients(
                        q_TE=into.q_GNWE[group].flatten(0, 1)[some],
                        k_NWE=into.k_GNWE[group],
                        v_NWD=into.v_GNWD[group],
                        s_NC=into.s_GNC[group],
                        r_RC=into.r_HRC[group % heads],
                    ),
                    room,
                )

        def whole(x: Tensor, like: Tensor) -> Tensor:
            return x.flatten(1, 2)[:, :tokens].unflatten(0, (batch, heads)).to(like.dtype)

        grad_s = into.s_GNC.unflatten(0, (batch, heads)).to(s.dtype)
        return (
            whole(into.q_GNWE.mul_(ctx.scale), q), whole(into.k_GNWE, k), whole(into.v_GNWD, v), grad_s,
            into.r_HRC.to(r.dtype), None, None, None, None,
        )  # fmt: skip


def _composed(inputs: tuple[Any, ...], by_token: bool, *, needs_mass: bool) -> tuple[Tensor, Tensor | None]:
    """The output, and what a backward pass needs, from the two parts."""
    q, k, v, s, r, chosen, key_mask, layout = inputs
    batch, heads, tokens, _ = q.shape
    blocks = _in_blocks(q, k, v, s, r, chosen, key_mask, layout)
    mass = None
    if by_token or needs_mass:
        out, mass = gathered.forward_with_mass(blocks)
    else:
        out = gathered.plain_forward(blocks)
    if by_token and mass is not None:
        for group, some, head, room in _by_head(blocks, chosen, tokens):
            near_out, near_mass = out[group].flatten(0, 1)[some], mass[group].flatten()[some]
            far = scattered.forward(head, near_mass, room)
            near = (near_mass - far.shift_T).exp_()
            total = (near + far.sum_T).clamp_(min=TINY)
            factor_Tk = (far.factor_Tk / total[:, None]).to(out.dtype)
            near_out *= (near / total)[:, None]
            near_out += nn.functional.embedding_bag(far.place_Tk, far.out_PD, mode="sum", per_sample_weights=factor_Tk)
            near_mass.copy_(far.shift_T + total.log_())
    return out.flatten(1, 2)[:, :tokens].unflatten(0, (batch, heads)), mass


def _in_blocks(
    q: Tensor, k: Tensor, v: Tensor, s: Tensor, r: Tensor, chosen: Tensor, key_mask: Tensor | None, layout: BlockLayout
) -> gathered.Blocks:
    batch, heads, tokens, _ = q.shape
    blocks = layout.blocks(tokens)
    slots = layout.near_slots(blocks, q.device).expand(batch * heads, -1, -1)
    if chosen.shape[2] == blocks:
        slots = torch.cat([slots, chosen.flatten(0, 1)], -1)
    hidden = None
    if key_mask is not None or tokens % layout.width:
        real = torch.ones(batch, tokens, dtype=torch.bool, device=q.device) if key_mask is None else key_mask.bool()
        hidden = ~to_blocks(real[..., None], layout.width).squeeze(-1)
    return gathered.Blocks(
        q_GNWE=to_blocks(q.flatten(0, 1), layout.width),
        k_GNWE=to_blocks(k.flatten(0, 1), layout.width),
        v_GNWD=to_blocks(v.flatten(0, 1), layout.width),
        s_GNC=s.flatten(0, 1),
        r_HRC=r,
        slots_GNS=slots,
        hidden_BNW=hidden,
        layout=layout,
    )


def _by_head(
    blocks: gathered.Blocks, chosen: Tensor, tokens: int
) -> Iterator[tuple[int, slice, scattered.Head, scattered.Room]]:
    """Each head of each text, some queries at a time: the head's number, which queries, they, and room for them."""
    hidden, width, content = blocks.hidden_BNW, blocks.layout.width, blocks.s_GNC.shape[-1]
    step = max(width, scattered.QUERIES // width * width)
    room = None
    for group, chosen_Tk in enumerate(chosen.flatten(0, 1)):
        k_NWE = blocks.k_GNWE[group].clone()
        k_NWE[..., :content] += blocks.s_GNC[group][:, None]
        for start in range(0, tokens, step):
            some = slice(start, min(start + step, tokens))
            head = scattered.Head(
                first_block=start // width,
                q_TE=blocks.q_GNWE[group].flatten(0, 1)[some],
                k_NWE=k_NWE,
                v_NWD=blocks.v_GNWD[group],
                r_RC=blocks.r_HRC[group % blocks.heads],
                chosen_Tk=chosen_Tk[some].long(),
                hidden_NW=None if hidden is None else hidden[group // blocks.heads],
                layout=blocks.layout,
            )
            room = room or scattered.Room(head)  # none of the others is larger
            yield group, some, head, room

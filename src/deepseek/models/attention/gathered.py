"""Query blocks against the key blocks of their slots, gathered a chunk at a time: plain PyTorch, for any device.

A chunk is small enough for the processor's caches: its keys and values are gathered, its logits made, used and
forgotten. What is kept for the backward pass is the inputs, the output and a logarithm a token, so memory is O(T); the
backward pass gathers again. Time O(T S W (E + D)) for S slots of W keys a query block.

In 16 bits the products run as batched matrix products. In 32 bits and without gradients PyTorch's fused attention is
faster on the gathered chunk.

Slots are numbers of key blocks, -1 for none; those of the neighbourhood come first, so that a causal query block's own
is the one at ``layout.local``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deepseek.models.attention.blocks import LOW, BlockLayout, low

ROWS = 24
"""Query blocks of a chunk (of all batches and heads)."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Queries, keys and values in blocks, heads and batches in one dimension G = B H.

    Attributes:
        q_GNWE, k_GNWE, v_GNWD: in blocks; queries are scaled.
        s_GNC: the gate's term of each key block.
        r_HRC: the distances' term.
        slots_GNS: key blocks of each query block.
        hidden_GNW: true where a key is padding; ``None`` if none is.
    """

    q_GNWE: Tensor
    k_GNWE: Tensor
    v_GNWD: Tensor
    s_GNC: Tensor
    r_HRC: Tensor
    slots_GNS: Tensor
    hidden_BNW: Tensor | None
    layout: BlockLayout

    @property
    def heads(self) -> int:
        return int(self.r_HRC.shape[0])


@dataclass(frozen=True)
class Chunk:
    """Some query blocks (c of them) and what they attend to."""

    rows: slice
    q_cWE: Tensor
    k_cKE: Tensor
    v_cKD: Tensor
    index_cS: Tensor
    bucket_cS: Tensor
    far_cS: Tensor
    hidden: Tensor | None
    """Broadcastable to (c, W, S, W), true where a logit is hidden; ``None`` if none is."""


def chunks(blocks: Blocks) -> Iterator[Chunk]:
    """The query blocks, a chunk at a time."""
    layout, (groups, number, width, features) = blocks.layout, blocks.k_GNWE.shape
    q_rows = blocks.q_GNWE.reshape(groups * number, width, features)
    k_rows = blocks.k_GNWE.reshape(groups * number, -1)
    v_rows = blocks.v_GNWD.reshape(groups * number, -1)
    s_rows = blocks.s_GNC.reshape(groups * number, -1)
    r_rows = blocks.r_HRC.reshape(-1, blocks.r_HRC.shape[-1])
    content, slots = s_rows.shape[-1], blocks.slots_GNS.shape[-1]
    row = torch.arange(groups * number, device=q_rows.device)
    # as wide as keys, so that one addition runs through whole rows
    s_rows, r_rows = (functional.pad(x, (0, features - content)) for x in (s_rows, r_rows))
    own_r, group_r = row % number, row // number
    slot_rS = blocks.slots_GNS.reshape(-1, slots)
    none_rS = slot_rS < 0
    slot_rS = slot_rS.clamp(min=0)
    index_rS = slot_rS + (group_r * number)[:, None]
    delta_rS = own_r[:, None] - slot_rS
    far_rS = layout.is_far(delta_rS)
    bucket_rS = layout.bucket(delta_rS) + ((group_r % blocks.heads) * blocks.r_HRC.shape[1])[:, None]
    some_none_r = none_rS.any(1)
    triangle = None
    if layout.causal:
        triangle = torch.zeros(width, slots, width, dtype=torch.bool, device=q_rows.device)
        triangle[:, layout.local] = torch.ones(width, width, dtype=torch.bool, device=q_rows.device).triu(1)
    padded_rS = None
    if blocks.hidden_BNW is not None:
        hidden_rows = blocks.hidden_BNW.reshape(-1, width)
        hidden_index_rS = slot_rS + ((group_r // blocks.heads) * number)[:, None]
        padded_rS = hidden_rows.any(1)[hidden_index_rS]
    for start in range(0, groups * number, ROWS):
        part = slice(start, min(start + ROWS, groups * number))
        index = index_rS[part]
        size = index.shape[0]
        k = k_rows.index_select(0, index.flatten()).view(size, slots, width, features)
        far = far_rS[part]
        if slots > layout.near:
            # the neighbourhood is first and never far
            further = slice(layout.near, None)
            offset = s_rows.index_select(0, index[:, further].flatten())
            offset += r_rows.index_select(0, bucket_rS[part, further].flatten())
            offset *= far[:, further].flatten()[:, None]
            k[:, further] += offset.view(size, -1, 1, features)
        v = v_rows.index_select(0, index.flatten()).view(size, slots * width, -1)
        hidden = triangle
        if some_none_r[part].any():
            none = none_rS[part][:, None, :, None]
            hidden = none if hidden is None else hidden | none
        if padded_rS is not None and padded_rS[part].any():
            padding = hidden_rows[hidden_index_rS[part]][:, None]
            hidden = padding if hidden is None else hidden | padding
        yield Chunk(part, q_rows[part], k.flatten(1, 2), v, index, bucket_rS[part], far, hidden)


def logits_of(chunk: Chunk) -> Tensor:
    """(c, W, S W)."""
    logits = chunk.q_cWE @ chunk.k_cKE.transpose(-1, -2)
    if chunk.hidden is not None:
        size, width, _ = logits.shape
        logits.view(size, width, -1, width).masked_fill_(chunk.hidden, low(logits.dtype))
    return logits


def softmax_with_mass(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over the last dimension, and the logarithm of the sum of exponentials, float32."""
    greatest = logits.amax(-1)
    share = logits.softmax(-1)
    # the greatest logit's share is 1 / sum(exp(logits - greatest))
    return share, greatest.float() - share.amax(-1).float().log()


def plain_forward(blocks: Blocks) -> Tensor:
    """(G, N, W, D), without what a backward pass needs."""
    out = torch.empty(blocks.v_GNWD.shape, dtype=blocks.v_GNWD.dtype, device=blocks.v_GNWD.device)
    rows = out.view(-1, *out.shape[2:])
    fused = blocks.q_GNWE.dtype == torch.float32 and blocks.q_GNWE.shape[-1] == blocks.v_GNWD.shape[-1]
    for chunk in chunks(blocks):
        if fused:
            mask = None
            if chunk.hidden is not None:
                size, width = chunk.q_cWE.shape[:2]
                slots = chunk.index_cS.shape[1]
                mask = torch.zeros(chunk.hidden.shape, dtype=torch.float32, device=out.device)
                mask = mask.masked_fill_(chunk.hidden, LOW).expand(size, width, slots, width).flatten(2)[:, None]
            rows[chunk.rows] = functional.scaled_dot_product_attention(
                chunk.q_cWE[:, None], chunk.k_cKE[:, None], chunk.v_cKD[:, None], attn_mask=mask, scale=1.0
            )[:, 0]
        else:
            torch.bmm(logits_of(chunk).softmax(-1), chunk.v_cKD, out=rows[chunk.rows])
    return out


def forward_with_mass(blocks: Blocks) -> tuple[Tensor, Tensor]:
    """(G, N, W, D) and the logarithm of each query's sum of exponentials, (G, N, W) float32."""
    out = torch.empty(blocks.v_GNWD.shape, dtype=blocks.v_GNWD.dtype, device=blocks.v_GNWD.device)
    rows = out.view(-1, *out.shape[2:])
    mass = torch.empty(out.shape[:3], dtype=torch.float32, device=out.device)
    mass_rows = mass.view(-1, out.shape[2])
    for chunk in chunks(blocks):
        share, mass_rows[chunk.rows] = softmax_with_mass(logits_of(chunk))
        torch.bmm(share, chunk.v_cKD, out=rows[chunk.rows])
    return out, mass


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """Float32 accumulators, shaped as the inputs of :class:`Blocks`."""

    q_GNWE: Tensor
    k_GNWE: Tensor
    v_GNWD: Tensor
    s_GNC: Tensor
    r_HRC: Tensor

    @classmethod
    def of(cls, blocks: Blocks) -> Gradients:
        """Zeros."""
        zero = {name: getattr(blocks, name) for name in cls.__dataclass_fields__}
        return cls(**{n: torch.zeros(t.shape, dtype=torch.float32, device=t.device) for n, t in zero.items()})


def backward(blocks: Blocks, mass_GNW: Tensor, delta_GNW: Tensor, grad_GNWD: Tensor, into: Gradients) -> None:
    """Add the gradients of this part of attention.

    Args:
        mass_GNW: logarithm of the sum of exponentials over all that a query attends to, also in other parts.
        delta_GNW: the sum over features of output and its gradient.
        grad_GNWD: the output's gradient.
    """
    width = grad_GNWD.shape[2]
    flat = {n: getattr(into, n).view(-1, *getattr(into, n).shape[2:]) for n in ("q_GNWE", "k_GNWE", "v_GNWD", "s_GNC")}
    r_flat = into.r_HRC.view(-1, into.r_HRC.shape[-1])
    content = into.s_GNC.shape[-1]
    grads, mass, delta = (
        grad_GNWD.reshape(-1, *grad_GNWD.shape[2:]),
        mass_GNW.view(-1, width),
        delta_GNW.view(-1, width),
    )
    for chunk in chunks(blocks):
        grad = grads[chunk.rows]
        logits = logits_of(chunk)
        share = (logits - mass[chunk.rows][..., None]).exp_().to(grad.dtype)
        grad_v = share.transpose(-1, -2) @ grad
        inner = (grad @ chunk.v_cKD.transpose(-1, -2)).sub_(delta[chunk.rows][..., None])
        grad_logits = share.mul_(inner)
        flat["q_GNWE"][chunk.rows] += grad_logits @ chunk.k_cKE
        size, slots = chunk.index_cS.shape
        grad_k = (grad_logits.transpose(-1, -2) @ chunk.q_cWE).view(size * slots, width, -1)
        index = chunk.index_cS.flatten()
        flat["k_GNWE"].index_add_(0, index, grad_k.float())
        flat["v_GNWD"].index_add_(0, index, grad_v.float().view(size * slots, width, -1))
        grad_offset = grad_k[..., :content].sum(1, dtype=torch.float32) * chunk.far_cS.flatten()[:, None]
        flat["s_GNC"].index_add_(0, index, grad_offset)
        r_flat.index_add_(0, chunk.bucket_cS.flatten(), grad_offset)

"""Queries at the end of a text whose keys are in a cache: each token gathers the blocks that it attends to.

For decoding, one token or some at a time. Keys, values and block summaries of the whole text are at hand. A token reads
O(log N) blocks, and the search looks at the summaries: reading a cache of L tokens costs O(W log L), building the tree
above the summaries O(L / W).
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout, low, to_blocks
from deepseek.models.attention.dense import far_term

STEP = 16
"""Queries that gather at a time."""


def cached_attention(
    q_BHTE: Tensor,
    k_BHLE: Tensor,
    v_BHLD: Tensor,
    s_BHNC: Tensor,
    r_HRC: Tensor,
    layout: BlockLayout,
    *,
    scale: float,
    chosen_BHTk: Tensor,
    key_mask_BL: Tensor | None = None,
) -> Tensor:
    """The last T tokens' causal attention to their neighbourhoods, sinks and chosen blocks, (B, H, T, D)."""
    batch, heads, queries, _ = q_BHTE.shape
    keys, width = k_BHLE.shape[2], layout.width
    past, blocks = keys - queries, layout.blocks(keys)
    device = q_BHTE.device
    position = torch.arange(queries, device=device) + past
    near_TS = layout.near_slots(blocks, device)[position // width]
    slots = torch.cat([near_TS.expand(batch, heads, -1, -1), chosen_BHTk], -1)
    term = far_term(q_BHTE, s_BHNC, r_HRC, layout, position // width)
    k_rows = to_blocks(k_BHLE, width).flatten(0, 2).flatten(1)
    v_rows = to_blocks(v_BHLD, width).flatten(0, 2).flatten(1)
    base = (torch.arange(batch * heads, device=device) * blocks).view(batch, heads, 1, 1)
    outputs = []
    for start in range(0, queries, STEP):
        part = slots[:, :, start : start + STEP]
        index = part.clamp(min=0)
        flat = (index + base).flatten()
        k = k_rows.index_select(0, flat).view(*part.shape[:3], -1, k_BHLE.shape[-1])
        v = v_rows.index_select(0, flat).view(*part.shape[:3], -1, v_BHLD.shape[-1])
        logits = (k @ q_BHTE[:, :, start : start + STEP, :, None]).squeeze(-1).unflatten(-1, (-1, width))
        logits = scale * (logits + term[:, :, start : start + STEP].gather(-1, index)[..., None])
        place = index[..., None] * width + torch.arange(width, device=device)
        hide = (part < 0)[..., None] | (place > position[start : start + STEP, None, None])
        if key_mask_BL is not None:
            row = torch.arange(batch, device=device).view(-1, 1, 1, 1, 1)
            hide = hide | ~key_mask_BL.bool()[row, place.clamp(max=keys - 1)]
        share = logits.masked_fill(hide, low(logits.dtype)).flatten(-2).softmax(-1)
        outputs.append((share[..., None, :].to(v.dtype) @ v).squeeze(-2))
    return torch.cat(outputs, 2)

"""Gated block attention as its formula reads, with n x n tensors: slow, and right. Every fast path is compared with it.

With logits l_ij = scale q_i . k_j, for token i in block I and a key j in block J, and c_i the first C features of q_i:

    l_ij += scale c_i . (s_J + r[bucket(I - J)])        where J is far from I
    out_i = sum_j softmax_j(l_ij) v_j                   over the keys of the blocks that i attends to

``s`` are pooled keys (the gate's weight on a block, differentiable), ``r`` the learned relative-position matrix. Both
are constant within a block, so that the term costs one dot product a block, not one a key: it is the relative key
offset of Shaw et al. 2018 (arXiv:1803.02155) at the resolution of blocks.

Shapes: B batch, H heads, T tokens, N blocks, E features of queries and keys, D of values, C of content, R distances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout, members


def reference_attention(
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
    """Attention to near blocks, sinks and the chosen far blocks; O(T^2) time and memory.

    Args:
        s_BHNC: the gate's term of each key block.
        r_HRC: the distances' term, R = ``layout.sides * layout.buckets``.
        chosen: (B, H, U, k) block numbers, -1 for none; U = N (a choice for all tokens of a block) or T (for each
            token). ``None``: all blocks, dense attention with the same weights.
        key_mask_BT: true where a key is a token, false where it is padding.

    Returns:
        (B, H, T, D). Queries that no key is left for get the mean of the values that the mask hides, or of any.
    """
    return (
        reference_shares(q_BHTE, k_BHTE, s_BHNC, r_HRC, layout, scale=scale, chosen=chosen, key_mask_BL=key_mask_BT)
        @ v_BHTD
    )


def reference_shares(
    q_BHTE: Tensor,
    k_BHLE: Tensor,
    s_BHNC: Tensor,
    r_HRC: Tensor,
    layout: BlockLayout,
    *,
    scale: float,
    chosen: Tensor | None = None,
    key_mask_BL: Tensor | None = None,
) -> Tensor:
    """The shares of L keys in what the last T tokens attend to, (B, H, T, L); each query's are 1 together.

    Args: those of :func:`reference_attention`; with fewer queries than keys, ``chosen`` is for each token.
    """
    tokens, keys, width = q_BHTE.shape[2], k_BHLE.shape[2], layout.width
    blocks = layout.blocks(keys)
    block_L = torch.arange(keys, device=q_BHTE.device) // width
    block_T = block_L[keys - tokens :]
    delta_TN = block_T[:, None] - torch.arange(blocks, device=q_BHTE.device)
    far_TN = layout.is_far(delta_TN)
    content_BHTC = q_BHTE[..., : s_BHNC.shape[-1]]
    offset_BHTN = content_BHTC @ s_BHNC.transpose(-1, -2)
    distance_BHTR = content_BHTC @ r_HRC.transpose(-1, -2)
    bucket_BHTN = layout.bucket(delta_TN).expand(*offset_BHTN.shape)
    offset_BHTN = (offset_BHTN + distance_BHTR.gather(-1, bucket_BHTN)) * far_TN
    logits_BHTL = scale * (q_BHTE @ k_BHLE.transpose(-1, -2) + offset_BHTN[..., block_L])

    allowed_BHTN = torch.ones_like(offset_BHTN, dtype=torch.bool)
    if chosen is not None:
        always_NS = layout.near_slots(blocks, q_BHTE.device)
        allowed_BHTN = members(always_NS, blocks)[block_T].expand_as(allowed_BHTN)
        picked_BHUN = members(chosen, blocks)
        allowed_BHTN = allowed_BHTN | (picked_BHUN if chosen.shape[2] == tokens else picked_BHUN[:, :, block_T])
    allowed_BHTL = allowed_BHTN[..., block_L]
    if layout.causal:
        seen = torch.ones(tokens, keys, dtype=torch.bool, device=q_BHTE.device).tril(keys - tokens)
        allowed_BHTL = allowed_BHTL & seen
    if key_mask_BL is not None:
        allowed_BHTL = allowed_BHTL & key_mask_BL[:, None, None, :].bool()
    return logits_BHTL.masked_fill(~allowed_BHTL, torch.finfo(logits_BHTL.dtype).min).softmax(-1)

"""Dense attention with the same weights: every block takes part. For short texts, for exports, and to compare with.

Up to ``local + 1`` blocks all keys are near and it is PyTorch's fused attention, nothing added. Beyond, the far term of
each query and block goes into the product: queries get it as N more features, keys get the number of their block as a
vector of N with a single 1. The fused kernels then need no mask of T x T, which they would not pass gradients to; the
product costs (E + N) / E of what it did, which is fit for some thousand tokens. Longer dense attention runs in chunks
of linear memory (:func:`deepseek.models.attention.sparse.sparse_attention` with ``chosen=None``). Few queries of a long
text, and a graph that is traced for any length, have the far term as a mask: the one is small, and features of the
other must not depend on the length.

Where the C source runs, training takes that path at all lengths, and whole texts of some blocks without gradients do:
both passes need a third to a half of the fused kernel's time.

Otherwise, on a CPU that multiplies bfloat16, bidirectional attention in it with far blocks and without gradients runs
as two products and a softmax, whose logits are rounded to 16 bits as transformers' eager attention rounds them: the
fused kernel with as many more features reaches half the speed of a product there.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from deepseek.arithmetic import native_precisions
from deepseek.models.attention.blocks import LOW, BlockLayout, low
from deepseek.models.attention.native.attention import native_takes
from deepseek.models.attention.native.backward import native_differentiates
from deepseek.models.attention.sparse import sparse_attention

LOGITS = 2**20
"""Logits at a time of attention by products: what stays in the caches until it is used."""
IN_C = {torch.bfloat16: 3, torch.float32: 8}
"""Blocks from which on the C source is quicker than PyTorch, without gradients."""


def dense_attention(
    q_BHTE: Tensor,
    k_BHLE: Tensor,
    v_BHLD: Tensor,
    s_BHNC: Tensor | None,
    r_HRC: Tensor | None,
    layout: BlockLayout,
    *,
    scale: float,
    key_mask_BL: Tensor | None = None,
) -> Tensor:
    """Attention of T queries, the last of L tokens, to all keys.

    Args:
        s_BHNC, r_HRC: the gate's and the distances' term of each key block; ``None`` if no block is far.
        key_mask_BL: true for tokens, false for padding.

    Returns:
        (B, H, T, D).
    """
    queries, keys, values = q_BHTE.shape[2], k_BHLE.shape[2], v_BHLD.shape[-1]
    past = keys - queries
    if s_BHNC is not None and r_HRC is not None and _computed_in_c(q_BHTE, k_BHLE, v_BHLD, layout):
        return sparse_attention(q_BHTE, k_BHLE, v_BHLD, s_BHNC, r_HRC, layout, scale=scale, key_mask_BT=key_mask_BL)
    device = q_BHTE.device
    mask: Tensor | None = None
    term_BHTN: Tensor | None = None
    if s_BHNC is not None and r_HRC is not None:
        own_T = (torch.arange(queries, device=device) + past) // layout.width
        term_BHTN = far_term(q_BHTE, s_BHNC, r_HRC, layout, own_T)
    if term_BHTN is not None and _by_products_is_faster(q_BHTE, layout):
        return _by_products(q_BHTE, k_BHLE, v_BHLD, term_BHTN, layout.width, scale, key_mask_BL)
    if term_BHTN is not None:
        if past or torch.compiler.is_exporting() or torch.jit.is_tracing():
            mask = (scale * term_BHTN)[..., None].expand(*term_BHTN.shape, layout.width).flatten(-2)[..., :keys]
        else:
            q_BHTE, k_BHLE = _with_blocks(q_BHTE, k_BHLE, term_BHTN, layout.width)
    fused_causal = layout.causal and mask is None and key_mask_BL is None and past == 0
    if layout.causal and not fused_causal and queries > 1:
        position = torch.arange(queries, device=device)[:, None] + past
        later = torch.arange(keys, device=device) > position
        mask = _hidden(mask, later, q_BHTE.dtype)
    if key_mask_BL is not None:
        mask = _hidden(mask, ~key_mask_BL[:, None, None].bool(), q_BHTE.dtype)
    if values < q_BHTE.shape[-1]:  # the fused kernels want one width
        v_BHLD = functional.pad(v_BHLD, (0, q_BHTE.shape[-1] - values))
    out = functional.scaled_dot_product_attention(
        q_BHTE, k_BHLE, v_BHLD, attn_mask=mask, is_causal=fused_causal, scale=scale
    )
    return out[..., :values]


def _with_blocks(q_BHTE: Tensor, k_BHLE: Tensor, term_BHTN: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Queries with the term of each block as features, keys with their block's number; 0 fills up to eights."""
    spare = -(term_BHTN.shape[-1] + q_BHTE.shape[-1]) % 8  # kernels want rows of whole vectors
    blocks = term_BHTN.shape[-1] + spare
    number_LN = functional.one_hot(torch.arange(k_BHLE.shape[2], device=k_BHLE.device) // width, blocks)
    return (
        torch.cat([q_BHTE, functional.pad(term_BHTN, (0, spare)).to(q_BHTE.dtype)], -1),
        torch.cat([k_BHLE, number_LN.to(k_BHLE.dtype).expand(*k_BHLE.shape[:2], -1, -1)], -1),
    )


def _computed_in_c(q_BHTE: Tensor, k_BHLE: Tensor, v_BHLD: Tensor, layout: BlockLayout) -> bool:
    """Whether the C source does it, and its backward pass if gradients are wanted; without, short texts are quicker in
    PyTorch."""
    if q_BHTE.shape[2] != k_BHLE.shape[2]:
        return False
    if torch.is_grad_enabled() and (q_BHTE.requires_grad or k_BHLE.requires_grad or v_BHLD.requires_grad):
        return native_differentiates(q_BHTE, v_BHLD, layout)
    return native_takes(q_BHTE, v_BHLD, layout) and layout.blocks(q_BHTE.shape[2]) >= IN_C[q_BHTE.dtype]


def _by_products_is_faster(q_BHTE: Tensor, layout: BlockLayout) -> bool:
    on_cpu = q_BHTE.device.type == "cpu" and q_BHTE.dtype == torch.bfloat16
    traced = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    return on_cpu and not traced and not layout.causal and _bfloat16_units()


@cache
def _bfloat16_units() -> bool:
    """Whether the processor has some; without, products are slow."""
    return "bfloat16" in native_precisions("cpu")


def _by_products(
    q: Tensor, k: Tensor, v: Tensor, term_BHTN: Tensor, width: int, scale: float, key_mask_BL: Tensor | None
) -> Tensor:
    """Attention of some texts', heads' or queries at a time; the blocks' term is added to logits, not made a mask."""
    batch, heads, queries, _ = q.shape
    keys, values = v.shape[2:]
    out = q.new_empty(batch, queries, heads, values).transpose(1, 2)
    texts = max(1, LOGITS // (heads * queries * keys))
    some = max(1, min(heads, LOGITS // (queries * keys)))
    rows = max(1, min(queries, LOGITS // keys))
    nothing = q.new_empty(())
    for text, head, row in product(range(0, batch, texts), range(0, heads, some), range(0, queries, rows)):
        group = (slice(text, text + texts), slice(head, head + some))
        part = (*group, slice(row, row + rows))
        if row == 0:  # the same for all queries of a group
            k_, v_ = (x[group].flatten(0, 1).contiguous() for x in (k, v))
        q_ = q[part].flatten(0, 1).contiguous()
        shape = q[part].shape[:3]
        logits = torch.baddbmm(
            nothing.expand(len(q_), shape[2], keys), q_, k_.transpose(1, 2), beta=0, alpha=scale
        ).view(*shape, keys)
        whole, term = keys // width, scale * term_BHTN[part]
        blocks = logits[..., : whole * width].unflatten(-1, (whole, width))
        blocks += term[..., :whole, None]
        logits[..., whole * width :] += term[..., whole : -(-keys // width)]
        if key_mask_BL is not None:
            logits.masked_fill_(~key_mask_BL[text : text + texts, None, None].bool(), low(q.dtype))
        out[part] = torch.bmm(logits.softmax(-1).flatten(0, 1), v_).view(*shape, values)
    return out


def far_term(q_BHTE: Tensor, s_BHNC: Tensor, r_HRC: Tensor, layout: BlockLayout, own_T: Tensor) -> Tensor:
    """What far blocks add to the logits of their keys, without the scale: (B, H, T, N), 0 for near blocks.

    Args:
        own_T: the queries' blocks; (B, 1, T) where texts differ.
    """
    content_BHTC = q_BHTE[..., : s_BHNC.shape[-1]]
    blocks = s_BHNC.shape[2]
    node_N = torch.arange(blocks, device=q_BHTE.device)
    delta_TN = own_T[..., None] - node_N
    distance_BHTR = content_BHTC @ r_HRC.to(content_BHTC.dtype).transpose(-1, -2)
    bucket_NN = layout.bucket(node_N[:, None] - node_N)
    bucket = bucket_NN[own_T.clamp(max=blocks - 1)].expand(*distance_BHTR.shape[:3], -1)
    term = content_BHTC @ s_BHNC.to(content_BHTC.dtype).transpose(-1, -2) + distance_BHTR.gather(-1, bucket)
    return term * layout.is_far(delta_TN)


def block_attention(
    q_BHSE: Tensor,
    k_BHTE: Tensor,
    term_BHNC: Tensor,
    r_HRC: Tensor,
    layout: BlockLayout,
    position_S: Tensor,
    scale: float,
    key_mask_BT: Tensor | None,
) -> Tensor:
    """The share of each block in some queries' dense attention, (B, H, S, N); all float32.

    Args:
        position_S: the queries' positions; (B, 1, S) where texts differ.
    """
    tokens, device = k_BHTE.shape[2], k_BHTE.device
    place_T = torch.arange(tokens, device=device)
    block_T = place_T // layout.width
    term = far_term(q_BHSE, term_BHNC, r_HRC, layout, position_S // layout.width)
    logits = scale * (q_BHSE @ k_BHTE.transpose(-1, -2) + term[..., block_T])
    if layout.causal:
        logits = logits.masked_fill(place_T > position_S[..., None], LOW)
    if key_mask_BT is not None:
        logits = logits.masked_fill(~key_mask_BT[:, None, None].bool(), LOW)
    share = logits.softmax(-1)
    mass = torch.zeros(*share.shape[:-1], layout.blocks(tokens), device=device)
    return mass.index_add_(-1, block_T, share)


def _hidden(mask: Tensor | None, hide: Tensor, dtype: torch.dtype) -> Tensor:
    if mask is None:
        return torch.zeros(hide.shape, dtype=dtype, device=hide.device).masked_fill(hide, low(dtype))
    return mask.masked_fill(hide, low(dtype))

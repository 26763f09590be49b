"""A loss that teaches the gate where attention goes.

Some queries of a text are drawn, of a decoder's those whose predictions are scored; for each, the share of dense
attention that every far block gets is the target (without gradient), and the gate's scores of the blocks are the
prediction: cross-entropy over the far blocks, less the target's entropy. A query weighs by what it gives to far blocks
at all, and by how concentrated that is: one that looks at a single block is lost without it, one that looks at twenty
wants their average, and would have every block's summary be that. The nodes above are taught in the same way, up to two
of them, so that the search of a text longer than those in training does not lose on its way down what the leaves would
have shown: the saliency of tokens learns to make a block findable by whoever needs it, among all others. SeerAttention
(arXiv:2410.13276) distils a gate in this way after training, for all queries and one level; with a fixed number of
queries it costs O(T) and can be part of training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepseek.models.attention.blocks import LOW, BlockLayout
from deepseek.models.attention.dense import block_attention
from deepseek.models.attention.pooling import Level, above, occupied


def gate_alignment_loss(
    q_BHTE: Tensor,
    k_BHTE: Tensor,
    term_BHNC: Tensor,
    scored: Level,
    r_HRC: Tensor,
    layout: BlockLayout,
    *,
    scale: float,
    queries: int,
    key_mask_BT: Tensor | None = None,
    scored_BT: Tensor | None = None,
) -> Tensor | None:
    """The mean divergence of the gate's scores from dense attention, over levels of the tree, in nats.

    Args:
        term_BHNC: the gate's term of each key block, as attention adds it.
        scored: the summaries as the search scores them.
        queries: how many positions are drawn (by PyTorch's generator), the same of all heads.
        scored_BT: which positions may be drawn, of each text for itself; all, the same of all texts, if there is none.

    Returns:
        A number, or ``None`` if the text is too short to have blocks that a gate would choose from.
    """
    tokens, width = q_BHTE.shape[2], layout.width
    blocks = layout.blocks(tokens)
    first = (layout.local + layout.sinks + 1) * width if layout.causal else 0
    if layout.neighbourly(blocks - layout.sinks) or tokens <= first:
        return None
    device = q_BHTE.device
    if scored_BT is None:
        drawn_S = torch.randint(first, tokens, (queries,), device="cpu").to(device)
        q_BHSE = q_BHTE[:, :, drawn_S].float()
    else:
        drawn_S = _drawn(scored_BT.bool(), first, queries)
        q_BHSE = q_BHTE.gather(2, drawn_S[..., None].expand(*q_BHTE.shape[:2], -1, q_BHTE.shape[-1])).float()
    own_S = drawn_S // width
    node_N = torch.arange(blocks, device=device)
    good_BHSN = layout.is_choosable(own_S[..., None], node_N) & occupied(scored)[:, :, None]
    with torch.no_grad():
        mass = block_attention(
            q_BHSE, k_BHTE.float(), term_BHNC.float(), r_HRC.float(), layout, drawn_S, scale, key_mask_BT
        )
        mass = mass * good_BHSN
        far = mass.sum(-1, keepdim=True)
        target = mass / far.clamp(min=1e-9)
        weight_BHS = far.squeeze(-1) * _concentration(target, good_BHSN)
        for counted_BT in (key_mask_BT, scored_BT):
            if counted_BT is not None:
                weight_BHS = weight_BHS * counted_BT[:, None].gather(2, drawn_S.expand(len(counted_BT), 1, -1)).bool()
        weight_BHS = weight_BHS / weight_BHS.sum(-1, keepdim=True).clamp(min=1e-6)
    content_BHSC = scale * q_BHSE[..., : scored.keys.shape[-1]]
    distance_BHSR = content_BHSC @ r_HRC.float().transpose(-1, -2)
    losses = []
    level = Level(scored.keys.float(), scored.mass, 1)
    while True:
        good, wanted = _of_nodes(good_BHSN, level.span), _of_nodes(target, level.span)
        node = node_N[: good.shape[-1]]
        if layout.causal:  # the search looks at complete nodes; what they leave over, at blocks themselves
            good = good & layout.is_whole(own_S[..., None], node, level.span)
        score = content_BHSC @ level.keys.transpose(-1, -2)
        bucket = layout.bucket(layout.to_middle(own_S[..., None], node, level.span))
        score = score + distance_BHSR.gather(-1, bucket.expand(score.shape))
        losses.append((weight_BHS * _divergence(wanted * good, score, good)).sum(-1).mean())
        if good.shape[-1] <= 2:
            return torch.stack(losses).mean()
        level = above(level, layout.branching)


def _drawn(scored_BT: Tensor, first: int, queries: int) -> Tensor:
    """(B, 1, S) positions from ``first`` on, of those that are scored; any of a text that has none."""
    allowed_BT = scored_BT & (torch.arange(scored_BT.shape[1], device=scored_BT.device) >= first)
    allowed_BT = allowed_BT | ~allowed_BT.any(1, keepdim=True)
    return torch.multinomial(allowed_BT.float(), queries, replacement=True)[:, None]


def _concentration(share_BHSN: Tensor, good_BHSN: Tensor) -> Tensor:
    """The sum of squares of shares (Herfindahl's index), from 0 where they are even to 1 where one block has all."""
    even = 1 / good_BHSN.sum(-1).clamp(min=1)
    return ((share_BHSN.square().sum(-1) - even) / (1 - even).clamp(min=1e-3)).clamp(min=0)


def _of_nodes(leaf_BHSN: Tensor, span: int) -> Tensor:
    """Of each node: whether it has any of these blocks, or the sum of their shares."""
    if span == 1:
        return leaf_BHSN
    parts = nn.functional.pad(leaf_BHSN, (0, -leaf_BHSN.shape[-1] % span)).unflatten(-1, (-1, span))
    return parts.any(-1) if leaf_BHSN.dtype == torch.bool else parts.sum(-1)


def _divergence(target: Tensor, score: Tensor, good: Tensor) -> Tensor:
    """Nats by which the scores' softmax over the good differs from shares, which sum up to 1 at most."""
    guess = score.masked_fill(~good, LOW).log_softmax(-1)
    whole = target.sum(-1, keepdim=True)
    share = target / whole.clamp(min=1e-9)
    found = (share * (share.clamp(min=1e-9).log() - guess)).masked_fill(~good, 0.0).sum(-1)
    return found * whole.squeeze(-1)

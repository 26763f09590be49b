"""A loss that teaches the gate where attention goes.

Some queries of a text are drawn; for each, the share of dense attention that every far block gets is the target
(without gradient), and the gate's scores of the blocks are the prediction: cross-entropy over the far blocks, less the
target's entropy, weighted by what the query gives to far blocks at all. So the saliency of tokens learns to make a
block findable by whoever needs it. SeerAttention (arXiv:2410.13276) distils a gate in this way after training, for all
queries; with a fixed number of queries it costs O(T) and can be part of training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepseek.models.attention.blocks import LOW, BlockLayout
from deepseek.models.attention.dense import block_attention, far_term
from deepseek.models.attention.pooling import Level, occupied


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
) -> Tensor | None:
    """The mean divergence of the gate's scores from dense attention, in nats.

    Args:
        term_BHNC: the gate's term of each key block, as attention adds it.
        scored: the summaries as the search scores them.
        queries: how many positions are drawn (by PyTorch's generator), the same of all texts and heads.

    Returns:
        A number, or ``None`` if the text is too short to have blocks that a gate would choose from.
    """
    tokens, width = q_BHTE.shape[2], layout.width
    blocks = layout.blocks(tokens)
    first = (layout.local + layout.sinks + 1) * width if layout.causal else 0
    if layout.neighbourly(blocks - layout.sinks) or tokens <= first:
        return None
    drawn_S = torch.randint(first, tokens, (queries,), device="cpu").to(q_BHTE.device)
    device = q_BHTE.device
    own_S = drawn_S // width
    node_N = torch.arange(blocks, device=device)
    q_BHSE = q_BHTE[:, :, drawn_S].float()
    good_BHSN = layout.is_choosable(own_S[:, None], node_N) & occupied(scored)[:, :, None]
    with torch.no_grad():
        mass = block_attention(
            q_BHSE, k_BHTE.float(), term_BHNC.float(), r_HRC.float(), layout, drawn_S, scale, key_mask_BT
        )
        mass = mass * good_BHSN
        far = mass.sum(-1, keepdim=True)
        target = mass / far.clamp(min=1e-9)
        if key_mask_BT is not None:
            far = far * key_mask_BT[:, drawn_S][:, None, :, None]
    score = scale * far_term(q_BHSE, scored.keys.float(), r_HRC.float(), layout, own_S)
    guess = score.masked_fill(~good_BHSN, LOW).log_softmax(-1)
    divergence = (target * (target.clamp(min=1e-9).log() - guess)).masked_fill(~good_BHSN, 0.0).sum(-1)
    return (divergence * far.squeeze(-1)).mean()

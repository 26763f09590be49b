"""The tree of pooled keys in which the gate searches.

A block's summary is the average of its keys, weighted by a learned saliency: softmax over the block's tokens of
``w . k_j``. A node above pools its children by their mass, ``exp(t) log sum exp w . k_j``, with a learned sharpness t
of each head. With t = 0 that is one softmax over all tokens below the node; the greater t, the more a block with a
salient token stands for the others. What makes a token stand out in its block need not be what makes the block stand
out among others. Without training w and t are 0 and a summary is the mean.

Building the tree takes O(T) time and memory: level l has N / branching^l nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from deepseek.models.attention.blocks import BlockLayout, to_blocks
from deepseek.models.attention.native.pooling import native_pooling, native_pools

NOTHING = -1e30
"""Mass of a node without tokens."""


@dataclass(frozen=True)
class Level:
    """Nodes of one level.

    Attributes:
        keys: (B, H, nodes, C).
        mass: (B, H, nodes), float32; :data:`NOTHING` where a node has no token.
        span: blocks that a node stands for.
    """

    keys: Tensor
    mass: Tensor
    span: int


def pool_blocks(
    content_BHTC: Tensor,
    saliency_HC: Tensor,
    width: int,
    key_mask_BT: Tensor | None = None,
    *,
    sharpness_H: Tensor | None = None,
    spare: int = 0,
) -> Level:
    """The summaries of all blocks; differentiable.

    Args:
        content_BHTC: the keys' content features.
        saliency_HC: w of each head.
        key_mask_BT: true for tokens, false for padding, which counts for nothing.
        sharpness_H: t of each head; 0 if there is none.
        spare: empty blocks behind the last; a graph that is traced for all lengths must not have just one block.
    """
    if native_pools(content_BHTC, saliency_HC, sharpness_H):
        keys, mass = native_pooling(content_BHTC, saliency_HC, width, key_mask_BT, sharpness_H=sharpness_H, spare=spare)
        return Level(keys, mass, 1)
    tokens = content_BHTC.shape[-2]
    missing = -tokens % width + spare * width
    padded_BHTC = functional.pad(content_BHTC, (0, 0, 0, missing))  # a copy, and rows without gaps for both products
    weight_BHT = (padded_BHTC @ saliency_HC.to(content_BHTC.dtype)[:, :, None]).squeeze(-1)[..., :tokens].float()
    if key_mask_BT is not None:
        weight_BHT = weight_BHT.masked_fill(~key_mask_BT[:, None, :].bool(), NOTHING)
    weight_BHNW = functional.pad(weight_BHT, (0, missing), value=NOTHING).unflatten(-1, (-1, width))
    mass_BHN = weight_BHNW.logsumexp(-1)
    share_BHNW = (weight_BHNW - mass_BHN[..., None]).exp() * (weight_BHNW > NOTHING / 2)
    keys_BHNWC = padded_BHTC.unflatten(-2, (-1, width))
    keys_BHNC = (share_BHNW.to(content_BHTC.dtype)[..., None, :] @ keys_BHNWC).squeeze(-2)
    if sharpness_H is not None:
        sharp_BHN = mass_BHN * sharpness_H.float().exp()[:, None]
        mass_BHN = sharp_BHN.where(mass_BHN > NOTHING / 2, mass_BHN)  # where there is nothing it has to stay so
    return Level(keys_BHNC, mass_BHN, 1)


def above(level: Level, branching: int) -> Level:
    """The level of the parents."""
    missing = -level.mass.shape[-1] % branching
    mass = functional.pad(level.mass, (0, missing), value=NOTHING).unflatten(-1, (-1, branching))
    keys = to_blocks(level.keys, branching)
    total = mass.logsumexp(-1)
    share = (mass - total[..., None]).exp() * (mass > NOTHING / 2)
    pooled = (share.to(keys.dtype)[..., None, :] @ keys).squeeze(-2)
    return Level(pooled, total, level.span * branching)


def tree(leaves: Level, layout: BlockLayout) -> list[Level]:
    """The levels of a search, from the leaves up to the first with at most ``layout.top`` nodes."""
    levels = [leaves]
    while levels[-1].mass.shape[-1] > layout.top:
        levels.append(above(levels[-1], layout.branching))
    return levels


def occupied(level: Level) -> Tensor:
    """(B, H, nodes), which nodes have a token."""
    return level.mass > NOTHING / 2


def detached(level: Level) -> Level:
    """The level outside of autograd."""
    return Level(level.keys.detach(), level.mass.detach(), level.span)

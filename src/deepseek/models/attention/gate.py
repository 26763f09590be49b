"""The sparse activation gate: which far blocks a query attends to, found in a tree of pooled keys.

The score of a node for token i is ``c_i . (k_node + r[bucket])``: the logit that the node's keys have on average, at the
distance of its middle. The search looks at all nodes of the tree's top level, keeps the best ``beam`` and goes down to
their children, level by level. Two kinds of choices:

- ``"block"``: one for all tokens of a query block. A node counts as much as it does for the token that wants it most:
  the greatest of the tokens' log-probabilities over the nodes at hand. For encoders: it sees queries after a token.
- ``"token"``: one for each token, which sees nothing after it; for causal models, so that what a token gives does not
  depend on its future, and decoding with a cache equals one pass over the whole. A node is pooled over complete far
  blocks only; the up to ``branching - 1`` blocks that no complete parent covers are looked at by themselves.

Time, for T tokens in N blocks, C features: the top level O(T roots C), each of the O(log N) levels below it
O(T beam branching C), the last choice O(T log N); with constant beam, branching and roots O(T log T). Memory is that of
one chunk. A choice is discrete; gradients reach the gate through the term that it adds to the logits of the chosen
blocks (:mod:`deepseek.models.attention.reference`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout, to_blocks
from deepseek.models.attention.pooling import Level, detached, occupied, tree

Choice = Literal["block", "token"]
CHUNK = 1 << 22
"""Scores that a chunk of the search has."""


@torch.no_grad()
def choose(
    content_BHTC: Tensor,
    leaves: Level,
    relative_HRC: Tensor,
    layout: BlockLayout,
    *,
    choice: Choice,
    query_mask_BT: Tensor | None = None,
    first_block: int = 0,
) -> Tensor:
    """Search for far blocks.

    Args:
        content_BHTC: the queries' content features.
        leaves: the key blocks' summaries.
        relative_HRC: the relative-position matrix.
        choice: see above.
        query_mask_BT: false for queries that are padding, which have no say in a block's choice.
        first_block: the block of the first query, where the queries are the end of a longer sequence of keys.

    Returns:
        (B, H, N, k) or (B, H, T, k) int64 block numbers, best first, -1 where there are no more.
    """
    levels = tree(detached(leaves), layout)
    blocks = leaves.mass.shape[-1]
    queries = _Queries(content_BHTC, relative_HRC, layout, choice, query_mask_BT, first_block)
    return torch.cat([_descend(part, levels, blocks) for part in queries.chunks(levels)], 2)[
        :, :, : queries.units(content_BHTC.shape[2])
    ]


class _Queries:
    """Query blocks that search together, at first all, then a chunk of them."""

    def __init__(
        self,
        content_BHTC: Tensor,
        relative_HRC: Tensor,
        layout: BlockLayout,
        choice: Choice,
        mask_BT: Tensor | None,
        first_block: int,
    ) -> None:
        self.layout, self.choice = layout, choice
        self.relative_HRC = relative_HRC.detach().to(content_BHTC.dtype)
        self.content_BHNWC = to_blocks(content_BHTC, layout.width)
        tokens, device = content_BHTC.shape[2], content_BHTC.device
        real_BT = torch.ones(content_BHTC.shape[0], tokens, device=device, dtype=torch.bool)
        if mask_BT is not None:
            real_BT = mask_BT.bool()
        self.real_BNW = to_blocks(real_BT[..., None], layout.width).squeeze(-1)
        self.block_N = first_block + torch.arange(self.content_BHNWC.shape[2], device=device)

    def units(self, tokens: int) -> int:
        """Choices for so many tokens."""
        return self.layout.blocks(tokens) if self.choice == "block" else tokens

    def chunks(self, levels: Sequence[Level]) -> Iterator[_Queries]:
        """The query blocks, so many at a time that the widest scores stay small."""
        batch, heads, blocks, width, _ = self.content_BHNWC.shape
        widest = max(levels[-1].mass.shape[-1], self.layout.beam * self.layout.branching + self.layout.branching)
        step = max(1, CHUNK // (batch * heads * width * widest))
        for start in range(0, blocks, step):
            part = object.__new__(_Queries)
            part.layout, part.choice, part.relative_HRC = self.layout, self.choice, self.relative_HRC
            part.content_BHNWC = self.content_BHNWC[:, :, start : start + step]
            part.real_BNW = self.real_BNW[:, start : start + step]
            part.block_N = self.block_N[start : start + step]
            yield part

    def reach(self, span: int) -> Tensor:
        """(N,) how many nodes of this span lie wholly before a causal query block's neighbourhood."""
        return ((self.block_N - self.layout.local).clamp(min=0)) // span

    def relative(self, node: Tensor, span: int) -> Tensor:
        """The distances' keys for nodes of shape (..., N, m) or (N, m): with C behind, and H before N."""
        middle = node * span + (span - 1) // 2
        return self.layout.bucket(self.block_N[:, None] - middle)


def _descend(part: _Queries, levels: Sequence[Level], blocks: int) -> Tensor:
    top = levels[-1]
    best = _from_top(part, top, keep=_kept(part.layout, levels, len(levels) - 1, blocks))
    for depth in range(len(levels) - 2, -1, -1):
        keep = _kept(part.layout, levels, depth, blocks)
        follow = _from_blocks if part.choice == "block" else _from_tokens
        best = follow(part, levels[depth], best, keep)
    return best


def _kept(layout: BlockLayout, levels: Sequence[Level], depth: int, blocks: int) -> int:
    """Nodes of a level that the search goes on with: the beam, and at the leaves the blocks that are chosen."""
    return min(layout.chosen(blocks) if depth == 0 else layout.beam, levels[depth].mass.shape[-1])


def _eligible(part: _Queries, node: Tensor, level: Level) -> Tensor:
    """Which nodes may be looked at: for causal queries complete far ones; leaves that are far and no sinks.

    ``node`` is (..., N, m) or (..., N, W, m) for tokens' own candidates.
    """
    own = part.block_N[:, None] if node.dim() < 5 else part.block_N[:, None, None]
    good = node >= 0
    if part.layout.causal:
        good = good & ((node + 1) * level.span <= own - part.layout.local)
    if level.span == 1:
        good = good & part.layout.is_far(own - node) & (node >= part.layout.sinks)
    return good


def _from_top(part: _Queries, level: Level, keep: int) -> Tensor:
    """All nodes of the top level, scored by all tokens."""
    nodes = level.mass.shape[-1]
    node_Nm = torch.arange(nodes, device=level.mass.device).expand(len(part.block_N), -1)
    key_BHNmC = level.keys[:, :, None] + part.relative_HRC[:, part.relative(node_Nm, level.span)]
    score_BHNWm = part.content_BHNWC @ key_BHNmC.transpose(-1, -2)
    good_BHNm = _eligible(part, node_Nm, level) & occupied(level)[:, :, None]
    return _best(part, score_BHNWm, node_Nm, good_BHNm, keep)


def _from_blocks(part: _Queries, level: Level, parent_BHNw: Tensor, keep: int) -> Tensor:
    """The children of the nodes that a query block followed."""
    branching = part.layout.branching
    child = torch.arange(branching, device=parent_BHNw.device)
    node_BHNm = (parent_BHNw[..., None] * branching + child).flatten(-2)
    nodes = level.mass.shape[-1]
    node_BHNm = torch.where((node_BHNm >= 0) & (node_BHNm < nodes), node_BHNm, -1)
    index = node_BHNm.clamp(min=0)
    key_BHNmC = _rows(level.keys, index) + _relative_rows(part, part.relative(index, level.span))
    score_BHNWm = part.content_BHNWC @ key_BHNmC.transpose(-1, -2)
    good = _eligible(part, node_BHNm, level) & occupied(level).gather(-1, index.flatten(-2)).view_as(index)
    return _best(part, score_BHNWm, node_BHNm, good, keep)


def _from_tokens(part: _Queries, level: Level, parent_BHUw: Tensor, keep: int) -> Tensor:
    """The children of the nodes that each token followed, and the nodes that no complete parent covers."""
    branching, width = part.layout.branching, part.content_BHNWC.shape[3]
    batch, heads, _, beam = parent_BHUw.shape
    parent = parent_BHUw.view(batch, heads, -1, width, beam)
    child = torch.arange(branching, device=parent.device)
    node = (parent[..., None] * branching + child).flatten(-2)
    node = torch.where(parent.repeat_interleave(branching, -1) >= 0, node, -1)
    if part.layout.causal:
        edge_Nm = part.reach(level.span * branching)[:, None] * branching + child[: branching - 1]
        node = torch.cat([node, edge_Nm[:, None].expand(*node.shape[:-1], -1)], -1)
    nodes = level.mass.shape[-1]
    node = torch.where(node < nodes, node, -1)
    index = node.clamp(min=0)
    bucket = part.layout.bucket(part.block_N[:, None, None] - (index * level.span + (level.span - 1) // 2))
    flat = index.flatten(2)
    key = _rows(level.keys, flat.unsqueeze(2)).view(*index.shape, -1)
    distance = (part.content_BHNWC @ part.relative_HRC[:, None].transpose(-1, -2)).gather(-1, bucket)
    score = (key @ part.content_BHNWC[..., None]).squeeze(-1) + distance
    good = _eligible(part, node, level) & occupied(level).gather(-1, flat).view_as(index)
    return _best(part, score, node, good, keep)


def _rows(keys_BHnC: Tensor, index_BHNm: Tensor) -> Tensor:
    """keys[b, h, index[b, h, N, m]]: (B, H, N, m, C)."""
    batch, heads, nodes, features = keys_BHnC.shape
    base = torch.arange(batch * heads, device=keys_BHnC.device).view(batch, heads, 1, 1) * nodes
    found = keys_BHnC.reshape(-1, features).index_select(0, (index_BHNm + base).flatten())
    return found.view(*index_BHNm.shape, features)


def _relative_rows(part: _Queries, bucket_BHNm: Tensor) -> Tensor:
    heads, distances, features = part.relative_HRC.shape
    base = torch.arange(heads, device=bucket_BHNm.device)[:, None, None] * distances
    found = part.relative_HRC.reshape(-1, features).index_select(0, (bucket_BHNm + base).flatten())
    return found.view(*bucket_BHNm.shape, features)


def _best(part: _Queries, score_BHNWm: Tensor, node: Tensor, good: Tensor, keep: int) -> Tensor:
    """The best nodes of a query block or of each token, -1 where there are not so many.

    ``node`` and ``good`` are (..., N, m), or (B, H, N, W, m) where tokens have candidates of their own.
    """
    low = torch.finfo(score_BHNWm.dtype).min
    good_BHNWm = good if good.dim() == 5 else good[..., None, :]
    score_BHNWm = score_BHNWm.masked_fill_(~good_BHNWm, low)
    if part.choice == "block":
        if score_BHNWm.shape[-2] > 1:
            score_BHNWm = score_BHNWm.log_softmax(-1)
        score_BHNWm = score_BHNWm.masked_fill_(~part.real_BNW[:, None, :, :, None], low)
        score = score_BHNWm.amax(-2).masked_fill_(~good, low)
    else:
        score = score_BHNWm
        node = node if node.dim() == 5 else node[..., None, :]
        good = good_BHNWm
    keep = min(keep, score.shape[-1])
    index = score.topk(keep, -1).indices
    node, good = node.expand_as(score).gather(-1, index), good.expand_as(score).gather(-1, index)
    found = torch.where(good, node, -1)
    return found if part.choice == "block" else found.flatten(2, 3)

"""The sparse activation gate: which far blocks a query attends to, found in a tree of pooled keys.

The score of a node for token i is ``c_i . (k_node + r[bucket])``: the logit that the node's keys have on average, at
the distance of its middle. The search looks at all nodes of the tree's top level, keeps the best ``beam`` and goes down
to their children, level by level. Two kinds of choices:

- ``"block"``: one for all tokens of a query block. A node counts as much as it does for the token that wants it most:
  the greatest of the tokens' probabilities over the nodes at hand. For encoders: it sees queries after a token.
- ``"token"``: one for each token, which sees nothing after it; for causal models. A node is pooled over complete far
  blocks only; the blocks that no complete parent covers, fewer than a parent has, are looked at by themselves. How many
  blocks a token of a causal text chooses, and from which level down it searches, depends on the blocks before it, not
  on the text's length: what a token gives does not depend on its future, and decoding with a cache equals one pass over
  the whole.

Time, for T tokens in N blocks, C features: the top level O(T roots C), each of the O(log N) levels below it
O(T beam branching C), the last choice O(T log N); with constant beam, branching and roots O(T log T). Memory is that of
one chunk, and of the choices. A choice is discrete; gradients reach the gate through the term that it adds to the
logits of the chosen blocks (:mod:`deepseek.models.attention.reference`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout, low, to_blocks
from deepseek.models.attention.native.search import native_search, native_searches
from deepseek.models.attention.pairs import tiled
from deepseek.models.attention.pooling import Level, detached, occupied, tree
from deepseek.models.attention.ranking import best

Choice = Literal["block", "token"]
CHUNK = 1 << 21
"""Scores of the top level that are at hand at a time."""
TOKENS = 1 << 13
"""Tokens that choose by themselves that are at hand at a time."""


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
    scale: float = 1.0,
) -> Tensor:
    """Search for far blocks.

    Args:
        content_BHTC: the queries' content features.
        leaves: the key blocks' summaries.
        relative_HRC: the relative-position matrix.
        choice: see above.
        query_mask_BT: false for queries that are padding, which have no say in a block's choice.
        first_block: the block of the first query, where the queries are the end of a longer sequence of keys.
        scale: of attention's logits.

    Returns:
        (B, H, N, k) or (B, H, T, k) block numbers, best first, -1 where there are no more; int64, from C int32.
    """
    whole = tree(detached(leaves), layout)
    if native_searches(content_BHTC, layout, by_token=choice == "token"):
        return native_search(
            content_BHTC, whole, relative_HRC.detach(), layout,
            query_mask_BT=query_mask_BT, first_block=first_block, scale=scale,
        )  # fmt: skip
    batch, heads, tokens, _ = content_BHTC.shape
    content_GNWC = to_blocks((scale * content_BHTC).flatten(0, 1), layout.width)
    blocks, device = leaves.mass.shape[-1], content_BHTC.device
    levels = [Level(level.keys.flatten(0, 1), level.mass.flatten(0, 1), level.span) for level in whole]
    hidden_BNW = None
    if query_mask_BT is not None:
        hidden_BNW = ~to_blocks(query_mask_BT.bool()[..., None], layout.width).squeeze(-1)
    search = _Search(
        content_GNWC=content_GNWC,
        block_N=first_block + torch.arange(content_GNWC.shape[1], device=device),
        group_G=torch.arange(batch * heads, device=device),
        relative_HRC=relative_HRC.detach().to(content_BHTC.dtype),
        bucket_of=layout.bucket(torch.arange(-blocks, blocks + 1, device=device)),
        hidden_BNW=hidden_BNW,
        layout=layout,
        choice=choice,
        blocks=blocks,
    )
    parts = [search.run(levels[: depth + 1], which) for depth, which in search.by_depth(len(levels) - 1)]
    units = layout.blocks(tokens) if choice == "block" else tokens
    return _joined(parts)[:, :units].unflatten(0, (batch, heads))


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Some groups (heads of texts) and some of their query blocks, which search together."""

    content_GNWC: Tensor
    block_N: Tensor
    group_G: Tensor
    relative_HRC: Tensor
    bucket_of: Tensor
    """The bucket of each distance from -N to N."""
    hidden_BNW: Tensor | None
    layout: BlockLayout
    choice: Choice
    blocks: int
    """Key blocks, N."""

    def by_depth(self, deepest: int) -> Iterator[tuple[int, slice]]:
        """Query blocks by the number of levels that they go down: of causal texts the first ones go less deep."""
        if not self.layout.causal:
            yield deepest, slice(None)
            return
        before = (self.block_N - self.layout.local).clamp(min=0).tolist()
        start = 0
        for depth in range(deepest + 1):
            reach = self.layout.top * self.layout.branching**depth
            end = len(before) if depth == deepest else sum(number <= reach for number in before)
            if end > start:
                yield depth, slice(start, end)
            start = max(start, end)

    def run(self, levels: Sequence[Level], which: slice) -> Tensor:
        """(G, units, k): the choices of some query blocks, a chunk at a time."""
        mine = self._part(slice(None), which)
        groups, blocks, width, _ = mine.content_GNWC.shape
        leaves = levels[0].mass.shape[-1]
        if self.layout.causal:
            leaves = min(leaves, max(1, int(mine.block_N[-1]) - self.layout.local))
            levels = [
                Level(x.keys[:, : -(-leaves // x.span)], x.mass[:, : -(-leaves // x.span)], x.span) for x in levels
            ]
        scores = width * max(levels[-1].mass.shape[-1], self.layout.beam * self.layout.branching)
        step_G = max(1, CHUNK // (scores * blocks))
        # tokens meet nodes in tiles, which want many tokens
        step_N = max(1, TOKENS // width) if self.choice == "token" else max(1, CHUNK // scores)
        found = []
        for start in range(0, groups, step_G):
            lot = slice(start, start + step_G)
            own = [Level(x.keys[lot], x.mass[lot], x.span) for x in levels]
            parts = (mine._part(lot, slice(first, first + step_N)) for first in range(0, blocks, step_N))
            found.append(_joined([part._descend(own) for part in parts]))
        return mine._as_many_as_due(torch.cat(found))

    def _part(self, of_groups: slice, of_blocks: slice) -> _Search:
        return replace(
            self,
            content_GNWC=self.content_GNWC[of_groups, of_blocks],
            block_N=self.block_N[of_blocks],
            group_G=self.group_G[of_groups],
            hidden_BNW=None if self.hidden_BNW is None else self.hidden_BNW[:, of_blocks],
        )

    def _due(self, last_block: int) -> int:
        """Blocks that a query in this block chooses, or any query of a bidirectional text."""
        return self.layout.chosen(last_block + 1 if self.layout.causal else self.blocks)

    def _as_many_as_due(self, chosen_GUk: Tensor, least: int = 0) -> Tensor:
        """Choices, of causal texts without those that are more than the blocks before a query allow.

        Args:
            least: so many are allowed to all.
        """
        if not self.layout.causal or chosen_GUk.shape[-1] <= least:
            return chosen_GUk
        due = torch.tensor([max(least, self._due(block)) for block in self.block_N.tolist()], device=chosen_GUk.device)
        due_U1 = due.repeat_interleave(self.layout.width)[:, None]
        return torch.where(torch.arange(chosen_GUk.shape[-1], device=due.device) < due_U1, chosen_GUk, -1)

    def _descend(self, levels: Sequence[Level]) -> Tensor:
        """(G, units, k), in the levels of these groups."""
        found = self._from_top(levels[-1], self._kept(levels, len(levels) - 1))
        for depth in range(len(levels) - 2, -1, -1):
            # what a query follows must not depend on how many others are looked at with it
            found = self._as_many_as_due(found, self.layout.beam)
            follow = self._from_blocks if self.choice == "block" else self._from_tokens
            found = follow(levels[depth], found, self._kept(levels, depth))
        return found

    def _kept(self, levels: Sequence[Level], depth: int) -> int:
        """Nodes of a level that the search goes on with: the beam, and of the leaves those that are chosen."""
        chosen = self._due(int(self.block_N[-1]))
        most: int = levels[depth].mass.shape[-1]
        return min(chosen if depth == 0 else max(self.layout.beam, chosen), most)

    @property
    def _head_G(self) -> Tensor:
        return self.group_G % self.relative_HRC.shape[0]

    def _bucket(self, own: Tensor, node: Tensor, span: int) -> Tensor:
        """The distance bucket of a node's middle."""
        delta = self.layout.to_middle(own, node, span)
        return self.bucket_of[delta.add_(len(self.bucket_of) // 2).clamp_(0, len(self.bucket_of) - 1)]

    def _distance_keys(self, bucket: Tensor) -> Tensor:
        """The relative-position rows of (N, m) or (G, N, m) buckets: (G, N, m, C)."""
        _, distances, features = self.relative_HRC.shape
        rows = bucket + (self._head_G * distances)[:, None, None]
        return self.relative_HRC.reshape(-1, features).index_select(0, rows.flatten()).view(*rows.shape, features)

    def _eligible(self, own: Tensor, node: Tensor, span: int) -> Tensor:
        """Which nodes may be looked at: for causal queries complete far ones; leaves that are far and no sinks."""
        good = node >= 0
        if self.layout.causal:
            good = good & self.layout.is_whole(own, node, span)
        if span == 1:
            good = good & self.layout.is_choosable(own, node)
        return good

    def _from_top(self, level: Level, keep: int) -> Tensor:
        """All nodes of the top level, scored by all tokens."""
        own_N1 = self.block_N[:, None]
        node_Nm = torch.arange(level.mass.shape[-1], device=own_N1.device).expand(len(own_N1), -1)
        key_GNmC = self._distance_keys(self._bucket(own_N1, node_Nm, level.span)).add_(level.keys[:, None])
        good_GNm = self._eligible(own_N1, node_Nm, level.span) & occupied(level)[:, None]
        score_GNWm = self.content_GNWC @ key_GNmC.transpose(-1, -2)
        if self.choice == "block":
            return self._best_of_blocks(score_GNWm, node_Nm.expand(good_GNm.shape), good_GNm, keep)
        node = node_Nm[:, None].expand(score_GNWm.shape)
        return _best(score_GNWm, node, good_GNm[:, :, None].expand(score_GNWm.shape), keep).flatten(1, 2)

    def _from_blocks(self, level: Level, parent_GNw: Tensor, keep: int) -> Tensor:
        """The children of the nodes that a query block followed."""
        own_N1 = self.block_N[:, None]
        node_GNm = _children(parent_GNw, self.layout.branching, level.mass.shape[-1])
        index_GNm = node_GNm.clamp(min=0)
        groups = len(self.group_G)
        base = torch.arange(groups, device=index_GNm.device)[:, None, None]
        nodes = level.mass.shape[-1]
        rows = (index_GNm + base * nodes).flatten()
        key_GNmC = self._distance_keys(self._bucket(own_N1, index_GNm, level.span))
        key_GNmC += level.keys.flatten(0, 1).index_select(0, rows).view_as(key_GNmC)
        score_GNWm = self.content_GNWC @ key_GNmC.transpose(-1, -2)
        good = self._eligible(own_N1, node_GNm, level.span)
        good = good & occupied(level).flatten()[rows].view_as(good)
        return self._best_of_blocks(score_GNWm, node_GNm, good, keep)

    def _from_tokens(self, level: Level, parent_GTw: Tensor, keep: int) -> Tensor:
        """The children of the nodes that each token followed, and the nodes that no complete parent covers."""
        width, children, span = self.layout.width, self.layout.branching, level.span
        tokens, nodes = parent_GTw.shape[1], level.mass.shape[-1]
        child = torch.arange(children, device=parent_GTw.device)
        least = self.layout.sinks if span == 1 else 0
        own_N1 = self.block_N[:, None]
        # heads differ in what they follow, not in where nodes are
        bucket_Nn = self._bucket(own_N1, torch.arange(nodes, device=own_N1.device), span)
        row_T1 = (torch.arange(tokens, device=own_N1.device) // width * nodes)[:, None]
        edge_good_Te = edge_parent_T1 = None
        if self.layout.causal:
            parent_N1 = (own_N1 - self.layout.local).clamp(min=0) // (span * children)
            edge_Ne = parent_N1 * children + child
            good_Ne = self._eligible(own_N1, edge_Ne, span) & (edge_Ne < nodes)
            edge_good_Te = good_Ne.repeat_interleave(width, 0)
            edge_parent_T1 = torch.where(good_Ne.any(1, keepdim=True), parent_N1, -1).repeat_interleave(width, 0)
        occupied_GN = occupied(level)
        all_occupied = bool(occupied_GN.all())
        found = []
        for group, head in enumerate(self._head_G.tolist()):
            content_TC = self.content_GNWC[group].flatten(0, 1)
            parent_Tw = parent_GTw[group]
            if edge_parent_T1 is not None:
                parent_Tw = torch.cat([parent_Tw, edge_parent_T1], 1)
            node_Tm = (parent_Tw[..., None] * children + child).flatten(-2)  # below 0 where there is no parent
            score_Tm = _scores_of_children(content_TC, level.keys[group], parent_Tw, children, width)
            # children of a complete far node are complete and far; only what is no node, and sinks, are no candidates
            good = node_Tm >= least
            if edge_good_Te is not None:
                good[:, -children:] &= edge_good_Te
            else:
                good &= self._eligible(own_N1.repeat_interleave(width, 0), node_Tm, span) & (node_Tm < nodes)
            index_Tm = node_Tm.clamp(0, nodes - 1)
            if not all_occupied:
                good &= occupied_GN[group][index_Tm]
            bucket_Tm = bucket_Nn.take(index_Tm.add_(row_T1))
            score_Tm += (content_TC @ self.relative_HRC[head].T).gather(1, bucket_Tm)
            found.append(_best(score_Tm, node_Tm, good, keep))
        return torch.stack(found)

    def _best_of_blocks(self, score_GNWm: Tensor, node_GNm: Tensor, good_GNm: Tensor, keep: int) -> Tensor:
        """The nodes that some token of a query block wants most."""
        bad = torch.zeros(good_GNm.shape, dtype=score_GNWm.dtype, device=score_GNWm.device)
        bad.masked_fill_(~good_GNm, low(bad.dtype))
        share_GNWm = (score_GNWm + bad[:, :, None]).softmax(-1)
        if self.hidden_BNW is not None:
            hidden_GNW = self.hidden_BNW[self.group_G // self.relative_HRC.shape[0]]
            share_GNWm = share_GNWm * ~hidden_GNW[..., None]
        return _best(share_GNWm.amax(-2), node_GNm, good_GNm, keep)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Choices of consecutive queries (G, units, k), which may be more for later ones; -1 where there are fewer."""
    wide = max(part.shape[-1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, wide - part.shape[-1]), value=-1) for part in parts], 1)


def _children(parent: Tensor, children: int, nodes: int) -> Tensor:
    """(..., w) parents to (..., w * children) nodes; -1 for those that are not there."""
    node = parent[..., None] * children + torch.arange(children, device=parent.device)
    return torch.where((node >= 0) & (node < nodes), node, -1).flatten(-2)


def _scores_of_children(content_TC: Tensor, keys_nC: Tensor, parent_Tw: Tensor, children: int, width: int) -> Tensor:
    """(T, w * children) products of tokens and the children of their parents, in tiles of one parent."""
    families = to_blocks(keys_nC, children)
    tiles = tiled(parent_Tw, len(families), width)
    query = tiles.query(tiles.pair_tW)
    content = content_TC.index_select(0, query.flatten()).view(*query.shape, content_TC.shape[-1])
    product = content @ families.index_select(0, tiles.key_t).transpose(-1, -2)
    pairs = parent_Tw.numel()
    out = torch.zeros(pairs + 1, children, dtype=content.dtype, device=content.device)
    pair = tiles.pair_tW.flatten()
    out.index_copy_(0, torch.where(pair < 0, pairs, pair), product.flatten(0, 1))
    return out[:-1].view(len(parent_Tw), -1)


def _best(score: Tensor, node: Tensor, good: Tensor, keep: int) -> Tensor:
    """The best nodes along the last dimension, -1 where there are not so many."""
    nothing = torch.finfo(score.dtype).min
    values, places = best(score.masked_fill(~good, nothing), min(keep, score.shape[-1]))
    return torch.where(values > nothing, node.gather(-1, places), -1)

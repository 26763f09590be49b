"""Single queries against the key blocks that each of them chose: the far part of causal attention.

Queries that chose the same block meet it in tiles (:mod:`.pairs`). Weights are ``exp(logit - shift)`` with one shift a
query, the logarithm of its neighbourhood's sum: no tile has to look for its greatest logit, and parts are added up as
they are. Should a far logit be so much greater that the sum would not fit, the queries' greatest logits are looked for,
and the work is done again. The distance's term is constant within a block and enters the shift.

Plain PyTorch, for any device, some queries of one head at a time: so few that most of their outputs stay in a cache
until they are put together, so many that most tiles are full. What a chunk makes is written where the last chunk's was:
new memory would cost more than the products. Time O(T k W (E + D)) for k blocks a query; memory O(k D) a query at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from deepseek.models.attention.blocks import LOW, BlockLayout, low
from deepseek.models.attention.pairs import PairTiles, tiled

TILES = 128
"""Tiles of a chunk."""
QUERIES = 1 << 15
"""Queries at a time."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """Some queries of one head of one text, scaled; keys and values in blocks.

    Attributes:
        first_block: the block of the first query.
        q_TE, k_NWE, v_NWD: T queries, N blocks of W keys, keys with the gate's term of their block.
        r_RC: the distances' term.
        chosen_Tk: key blocks of each query, -1 for none.
        hidden_NW: true where a key is padding; ``None`` if none is.
    """

    first_block: int
    q_TE: Tensor
    k_NWE: Tensor
    v_NWD: Tensor
    r_RC: Tensor
    chosen_Tk: Tensor
    hidden_NW: Tensor | None
    layout: BlockLayout


class Room:
    """Memory that all heads share, made once: of a chunk, and of the outputs of all tiles of some queries."""

    def __init__(self, head: Head) -> None:
        blocks, width, features = head.k_NWE.shape
        values, like = head.v_NWD.shape[-1], {"dtype": head.q_TE.dtype, "device": head.q_TE.device}
        chosen = head.chosen_Tk
        most = chosen.numel() + (blocks if chosen.numel() else 0) * (width - 1)  # each block may leave a tile unfilled
        self.q = torch.empty(TILES * width, features, **like)
        self.k = torch.empty(TILES, width, features, **like)
        self.v = torch.empty(TILES, width, values, **like)
        self.logits = torch.empty(TILES, width, width, **like)
        self.out = torch.empty(-(-most // width) * width, values, **like)
        self.out[:1] = 0  # where pairs that are none are looked up: a weight of 0 needs a number
        self.number = torch.empty(len(self.out), dtype=torch.float32, device=head.q_TE.device)


class Pairs:
    """All pairs of a head's queries, in tiles, and the term of each.

    Attributes:
        tiles: where they are.
        term_Tk: the distance's term, float32.
        query_tW, bucket_tW: of each place of all tiles.
    """

    def __init__(self, head: Head) -> None:
        blocks, width, _ = head.k_NWE.shape
        queries, content = len(head.q_TE), head.r_RC.shape[-1]
        self.head = head
        self.tiles: PairTiles = tiled(head.chosen_Tk, blocks, width)
        bucket_of = head.layout.bucket(torch.arange(-blocks, blocks, device=head.q_TE.device))
        own_T1 = (torch.arange(queries, device=head.q_TE.device) // width + (head.first_block + blocks))[:, None]
        self._bucket_Tk = bucket_of[own_T1 - head.chosen_Tk.clamp(min=0)]
        self.term_Tk = (head.q_TE[:, :content] @ head.r_RC.T).gather(1, self._bucket_Tk).float()
        self._pair_tW = self.tiles.pair_tW.clamp(min=0)
        self.query_tW = self._pair_tW // self.tiles.choices

    @property
    def bucket_tW(self) -> Tensor:
        """See above."""
        return self._bucket_Tk.flatten()[self._pair_tW]

    def at_places(self, number_Tk: Tensor) -> Tensor:
        """What logits are lessened by, at each place; at left-over ones so much that nothing is left."""
        return number_Tk.flatten()[self._pair_tW].masked_fill_(self.tiles.pair_tW < 0, -low(number_Tk.dtype))

    def chunks(self, room: Room) -> Iterator[Chunk]:
        """Some tiles at a time, with their logits; what a chunk holds is gone when the next is asked for."""
        head, width = self.head, self.head.k_NWE.shape[1]
        some_hidden_N = None if head.hidden_NW is None else head.hidden_NW.any(1)
        for start in range(0, len(self.tiles.key_t), TILES):
            which = slice(start, min(start + TILES, len(self.tiles.key_t)))
            key_c, size = self.tiles.key_t[which], which.stop - start
            q = torch.index_select(head.q_TE, 0, self.query_tW[which].flatten(), out=room.q[: size * width])
            k = torch.index_select(head.k_NWE, 0, key_c, out=room.k[:size])
            q = q.view(size, width, -1)
            logits = torch.bmm(q, k.transpose(-1, -2), out=room.logits[:size])
            if some_hidden_N is not None and head.hidden_NW is not None and some_hidden_N[key_c].any():
                logits.masked_fill_(head.hidden_NW[key_c][:, None], low(logits.dtype))
            yield Chunk(which, slice(start * width, which.stop * width), key_c, q, k, logits)


@dataclass(frozen=True)
class Chunk:
    """c tiles: W queries each, of which some at the end are none, against one key block."""

    which: slice
    """Their numbers."""
    places: slice
    """Their queries' places among those of all tiles."""
    key_c: Tensor
    q_cWE: Tensor
    k_cWE: Tensor
    logits_cWW: Tensor
    """Without the distance's term."""


@dataclass(frozen=True)
class Sums:
    """Of each query's pairs: the values' sums, each value weighted by ``exp(logit - shift)``, and sums of weights.

    Attributes:
        shift_T: float32.
        out_PD: values' sums of all places of tiles.
        place_Tk: where the pairs are among them.
        factor_Tk: what a pair's sum is to be multiplied by; 0 where there is no pair.
        sum_T: of all pairs' weights, float32.
    """

    shift_T: Tensor
    out_PD: Tensor
    place_Tk: Tensor
    factor_Tk: Tensor
    sum_T: Tensor


def forward(head: Head, near_mass_T: Tensor, room: Room) -> Sums:
    """The pairs of a head; the sums are in ``room`` and gone when it is used again.

    Args:
        near_mass_T: logarithm of the sum of the neighbourhood's weights, float32.
    """
    pairs = Pairs(head)
    # without a neighbourhood there is nothing to shift by: the query is padding, or sees nothing else near
    sums = _weighed(head, pairs, near_mass_T.where(near_mass_T > LOW / 2, 0), room)
    most = torch.finfo(room.out.dtype).max ** 0.5
    if not bool((sums.sum_T < most).all()):
        sums = _weighed(head, pairs, torch.maximum(near_mass_T, _greatest(head, pairs, room)), room)
    return sums


def _weighed(head: Head, pairs: Pairs, shift_T: Tensor, room: Room) -> Sums:
    width = head.k_NWE.shape[1]
    exact_Tk = shift_T[:, None] - pairs.term_Tk
    less_Tk = exact_Tk.to(head.q_TE.dtype)
    less_tW = pairs.at_places(less_Tk)
    for chunk in pairs.chunks(room):
        weight = chunk.logits_cWW.sub_(less_tW[chunk.which, :, None]).exp_()
        torch.sum(weight, -1, dtype=torch.float32, out=room.number[chunk.places].view(-1, width))
        v = torch.index_select(head.v_NWD, 0, chunk.key_c, out=room.v[: len(chunk.key_c)])
        torch.bmm(weight, v, out=room.out[chunk.places].view(len(v), width, -1))
    place_Tk = pairs.tiles.place_P.view(head.chosen_Tk.shape)
    none_Tk = head.chosen_Tk < 0
    # of what was taken off, the digits that its type has no room for
    factor_Tk = (less_Tk - exact_Tk).exp_().masked_fill_(none_Tk, 0)
    sum_Tk = room.number[place_Tk].masked_fill_(none_Tk, 0)
    return Sums(shift_T, room.out, place_Tk, factor_Tk, (sum_Tk * factor_Tk).sum(-1))


def _greatest(head: Head, pairs: Pairs, room: Room) -> Tensor:
    """Each query's greatest logit, (T,) float32."""
    width = head.k_NWE.shape[1]
    for chunk in pairs.chunks(room):
        room.number[chunk.places].view(-1, width).copy_(chunk.logits_cWW.amax(-1))
    greatest_Tk = room.number[pairs.tiles.place_P.view(head.chosen_Tk.shape)] + pairs.term_Tk
    return greatest_Tk.masked_fill_(head.chosen_Tk < 0, -math.inf).amax(-1)


@dataclass(frozen=True, kw_only=True)
class HeadGradients:
    """Float32 accumulators of one head, views of those of all."""

    q_TE: Tensor
    k_NWE: Tensor
    v_NWD: Tensor
    s_NC: Tensor
    r_RC: Tensor


def backward(head: Head, mass_T: Tensor, delta_T: Tensor, grad_TD: Tensor, into: HeadGradients, room: Room) -> None:
    """Add this part's gradients; arguments as in :func:`deepseek.models.attention.gathered.backward`."""
    distances, content = head.r_RC.shape
    r_RC = head.r_RC.float()
    pairs = Pairs(head)
    less_tW, bucket_tW = pairs.at_places(mass_T[:, None] - pairs.term_Tk), pairs.bucket_tW
    for chunk in pairs.chunks(room):
        query_cW = pairs.query_tW[chunk.which]
        query = query_cW.flatten()
        grad = grad_TD.index_select(0, query).view(*query_cW.shape, -1)
        share = (chunk.logits_cWW - less_tW[chunk.which, :, None]).exp_().to(grad.dtype)
        v = head.v_NWD.index_select(0, chunk.key_c)
        into.v_NWD.index_add_(0, chunk.key_c, (share.transpose(-1, -2) @ grad).float())
        inner = (grad @ v.transpose(-1, -2)).sub_(delta_T[query_cW][..., None])
        grad_logits = share.mul_(inner)
        whole = grad_logits.sum(-1, keepdim=True, dtype=torch.float32)
        far = torch.zeros(*whole.shape[:-1], distances, device=whole.device)
        far.scatter_(-1, bucket_tW[chunk.which, :, None], whole)
        grad_q = (grad_logits @ chunk.k_cWE).float()
        grad_q[..., :content] += far @ r_RC
        into.q_TE.index_add_(0, query, grad_q.flatten(0, 1))
        into.k_NWE.index_add_(0, chunk.key_c, (grad_logits.transpose(-1, -2) @ chunk.q_cWE).float())
        q_content = chunk.q_cWE[..., :content].float()
        into.s_NC.index_add_(0, chunk.key_c, (whole.transpose(-1, -2) @ q_content).squeeze(1))
        into.r_RC.add_(far.flatten(0, 1).T @ q_content.flatten(0, 1))

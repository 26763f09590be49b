"""Single queries against the key blocks that each of them chose: the far part of causal attention.

Queries that chose the same block meet it in tiles (:mod:`.pairs`). A tile's weights are of its own block; a query's
blocks, and its neighbourhood, are put together by their greatest logits and sums. Gate and distance are constant within
a block and enter there.

Plain PyTorch, for any device, one head at a time. What a chunk makes is written where the last chunk's was: new memory
would cost more than the products. Time O(T k W (E + D)) for k blocks a query, and O(T k log(T k)) for the sort; memory
O(T k D) for one head.
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


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head of one text: queries scaled, keys and values in blocks.

    Attributes:
        q_TE, k_NWE, v_NWD: T queries, N blocks of W keys.
        s_NC: the gate's term of each key block.
        r_RC: the distances' term.
        chosen_Tk: key blocks of each query, -1 for none.
        hidden_NW: true where a key is padding; ``None`` if none is.
    """

    q_TE: Tensor
    k_NWE: Tensor
    v_NWD: Tensor
    s_NC: Tensor
    r_RC: Tensor
    chosen_Tk: Tensor
    hidden_NW: Tensor | None
    layout: BlockLayout


class Room:
    """Memory that all heads share, made once: of a chunk, and of the outputs of all tiles of a head."""

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
        self.greatest, self.sum = torch.empty(2, len(self.out), dtype=torch.float32, device=head.q_TE.device)


@dataclass(frozen=True)
class Tiles:
    """A chunk of c tiles: W queries each, of which some at the end are none, against one key block."""

    start: int
    """The number of its first tile."""
    pair_cW: Tensor
    """The pair's number, query * k + slot; -1 for none."""
    query_cW: Tensor
    key_c: Tensor
    bucket_cW: Tensor
    q_cWE: Tensor
    k_cWE: Tensor
    logits_cWW: Tensor
    """Without what is the same for the whole block."""
    term_cW: Tensor
    """What is: gate and distance, float32."""


def tiles(head: Head, all_tiles: PairTiles, room: Room) -> Iterator[Tiles]:
    """The pairs of a head in tiles, a chunk at a time; each is gone when the next is asked for."""
    blocks, width, _ = head.k_NWE.shape
    content = head.s_NC.shape[-1]
    extra_NCX = torch.cat([head.s_NC[:, None], head.r_RC.expand(blocks, -1, -1)], 1).transpose(-1, -2)
    bucket_of = head.layout.bucket(torch.arange(-blocks, blocks, device=head.q_TE.device))
    some_hidden_N = None if head.hidden_NW is None else head.hidden_NW.any(1)
    for start in range(0, len(all_tiles.key_t), TILES):
        pair_cW, key_c = all_tiles.pair_tW[start : start + TILES], all_tiles.key_t[start : start + TILES]
        size = len(key_c)
        query = all_tiles.query(pair_cW)
        q = torch.index_select(head.q_TE, 0, query.flatten(), out=room.q[: size * width]).view(size, width, -1)
        k = torch.index_select(head.k_NWE, 0, key_c, out=room.k[:size])
        bucket = bucket_of[query // width - key_c[:, None] + blocks]
        logits = torch.bmm(q, k.transpose(-1, -2), out=room.logits[:size])
        if some_hidden_N is not None and head.hidden_NW is not None and some_hidden_N[key_c].any():
            logits.masked_fill_(head.hidden_NW[key_c][:, None], low(logits.dtype))
        terms_cWX = q[..., :content] @ extra_NCX.index_select(0, key_c)
        term = terms_cWX[..., 0].float() + terms_cWX.gather(-1, bucket[..., None] + 1).squeeze(-1)
        yield Tiles(start, pair_cW, query, key_c, bucket, q, k, logits, term)


@dataclass(frozen=True)
class Sums:
    """Of each query's pairs: the values' sum, each weighted by ``exp(logit - greatest)``, and the sum of weights.

    Attributes:
        out_PD: values' sums of all places of tiles.
        place_Tk: where the pairs are among them.
        greatest_Tk, sum_Tk: float32; -inf and 0 where there is no pair.
    """

    out_PD: Tensor
    place_Tk: Tensor
    greatest_Tk: Tensor
    sum_Tk: Tensor


def forward(head: Head, room: Room) -> Sums:
    """The pairs of a head; the sums are in ``room`` and gone when it is used again."""
    queries, slots = head.chosen_Tk.shape
    width = head.k_NWE.shape[1]
    all_tiles = tiled(head.chosen_Tk, head.k_NWE.shape[0], width)
    for part in tiles(head, all_tiles, room):
        size = len(part.key_c)
        places = slice(part.start * width, (part.start + size) * width)
        greatest_cW = part.logits_cWW.amax(-1)
        weight = part.logits_cWW.sub_(greatest_cW[..., None]).exp_()
        torch.add(greatest_cW, part.term_cW, out=room.greatest[places].view(size, width))
        torch.sum(weight, -1, dtype=torch.float32, out=room.sum[places].view(size, width))
        v = torch.index_select(head.v_NWD, 0, part.key_c, out=room.v[:size])
        torch.bmm(weight, v, out=room.out[places].view(size, width, -1))
    place_Tk = all_tiles.place_P.view(queries, slots)
    none_Tk = head.chosen_Tk < 0
    greatest_Tk = room.greatest[place_Tk].masked_fill_(none_Tk, -math.inf)  # below what is hidden
    return Sums(room.out, place_Tk, greatest_Tk, room.sum[place_Tk].masked_fill_(none_Tk, 0))


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
    content, distances = head.s_NC.shape[-1], head.r_RC.shape[0]
    r_RC = head.r_RC.float()
    all_tiles = tiled(head.chosen_Tk, head.k_NWE.shape[0], head.k_NWE.shape[1])
    for part in tiles(head, all_tiles, room):
        query = part.query_cW.flatten()
        grad = grad_TD.index_select(0, query).view(*part.query_cW.shape, -1)
        # a place that is left over has no share
        shift = torch.where(part.pair_cW >= 0, mass_T[part.query_cW] - part.term_cW, -LOW)
        share = (part.logits_cWW - shift[..., None]).exp_().to(grad.dtype)
        v = head.v_NWD.index_select(0, part.key_c)
        into.v_NWD.index_add_(0, part.key_c, (share.transpose(-1, -2) @ grad).float())
        inner = (grad @ v.transpose(-1, -2)).sub_(delta_T[part.query_cW][..., None])
        grad_logits = share.mul_(inner)
        whole = grad_logits.sum(-1, keepdim=True, dtype=torch.float32)
        far = torch.zeros(*whole.shape[:-1], distances, device=whole.device)
        far.scatter_(-1, part.bucket_cW[..., None], whole)
        q = part.q_cWE
        grad_q = (grad_logits @ part.k_cWE).float()
        grad_q[..., :content] += whole * head.s_NC[part.key_c].float()[:, None] + far @ r_RC
        into.q_TE.index_add_(0, query, grad_q.flatten(0, 1))
        into.k_NWE.index_add_(0, part.key_c, (grad_logits.transpose(-1, -2) @ q).float())
        q_content = q[..., :content].float()
        into.s_NC.index_add_(0, part.key_c, (whole.transpose(-1, -2) @ q_content).squeeze(1))
        into.r_RC.add_(far.flatten(0, 1).T @ q_content.flatten(0, 1))

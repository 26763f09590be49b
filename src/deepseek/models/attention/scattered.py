"""Single queries against the key blocks that each of them chose: the far part of causal attention.

Pairs of a query and a key block are sorted by key block and cut into tiles of W queries, so that a tile is one matrix
product, whatever queries are in it (the order of MoBA's kernels, arXiv:2502.13189). A tile's softmax is of its own
block; a query's blocks, and its neighbourhood, are put together by the logarithms of their sums. Gate and distance are
constant within a block and enter there.

Plain PyTorch, for any device, one head at a time. Time O(T k W (E + D)) for k blocks a query, and O(T k log(T k)) for
the sort; memory O(T k D) for one head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout

TILES = 48
"""Tiles of a chunk."""
LOW = -1e30


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


@dataclass(frozen=True)
class Tiles:
    """A chunk of c tiles: W queries each, of which some at the end are none, against one key block."""

    pair_cW: Tensor
    """The pair's number, query * k + slot; -1 for none."""
    query_cW: Tensor
    key_c: Tensor
    bucket_cW: Tensor
    q_cWE: Tensor
    terms_cWX: Tensor
    """Logits of the W keys, of the gate and of all R distances, in this order."""
    hidden_cW: Tensor | None

    def logits(self, width: int) -> Tensor:
        """(c, W, W) with all terms."""
        logits = self.terms_cWX[..., :width] + self.block_term(width)[..., None]
        if self.hidden_cW is not None:
            logits = logits.masked_fill(self.hidden_cW[:, None], LOW)
        return logits

    def block_term(self, width: int) -> Tensor:
        """(c, W), what is the same for all keys of the block."""
        distance = self.terms_cWX[..., width + 1 :].gather(-1, self.bucket_cW[..., None]).squeeze(-1)
        return self.terms_cWX[..., width] + distance


def tiles(head: Head) -> Iterator[Tiles]:
    """The pairs of a head in tiles, a chunk at a time."""
    blocks, width, _ = head.k_NWE.shape
    chosen = head.chosen_Tk.flatten()
    pair = (chosen >= 0).nonzero().squeeze(-1)
    if not len(pair):
        return
    key, order = chosen[pair].sort(stable=True)
    pair = pair[order]
    count_N = torch.bincount(key, minlength=blocks)
    tiles_N = (count_N + width - 1) // width
    first_tile_N = tiles_N.cumsum(0) - tiles_N
    first_N = count_N.cumsum(0) - count_N
    number = int(tiles_N.sum())
    place = first_tile_N[key] * width + torch.arange(len(key), device=key.device) - first_N[key]
    padded = torch.full((number * width,), -1, dtype=pair.dtype, device=pair.device)
    padded[place] = pair
    pair_tW = padded.view(number, width)
    key_t = torch.repeat_interleave(torch.arange(blocks, device=key.device), tiles_N)
    content = head.s_NC.shape[-1]
    slots = head.chosen_Tk.shape[1]
    some_hidden_N = None if head.hidden_NW is None else head.hidden_NW.any(1)
    for start in range(0, number, TILES):
        pair_cW, key_c = pair_tW[start : start + TILES], key_t[start : start + TILES]
        query = (pair_cW // slots).clamp(min=0)
        q = head.q_TE.index_select(0, query.flatten()).view(*query.shape, -1)
        bucket = head.layout.bucket(query // width - key_c[:, None])
        extra = torch.cat([head.s_NC[key_c][:, None], head.r_RC.expand(len(key_c), -1, -1)], 1)
        terms = torch.cat(
            [q @ head.k_NWE[key_c].transpose(-1, -2), q[..., :content] @ extra.transpose(-1, -2)], -1
        )
        hidden = None
        if some_hidden_N is not None and head.hidden_NW is not None and some_hidden_N[key_c].any():
            hidden = head.hidden_NW[key_c]
        yield Tiles(pair_cW, query, key_c, bucket, q, terms, hidden)


def forward(head: Head) -> tuple[Tensor, Tensor]:
    """Outputs of all pairs (T, k, D) and the logarithms of their sums (T, k), float32; -1e30 where there is no pair."""
    queries, slots = head.chosen_Tk.shape
    width, values = head.k_NWE.shape[1], head.v_NWD.shape[-1]
    # one row more takes what tiles have beyond their pairs
    out = torch.zeros(queries * slots + 1, values, dtype=head.v_NWD.dtype, device=head.q_TE.device)
    mass = torch.full((queries * slots + 1,), LOW, dtype=torch.float32, device=head.q_TE.device)
    for part in tiles(head):
        logits = part.logits(width)
        lse = logits.float().logsumexp(-1)
        share = (logits - lse[..., None]).exp_().to(head.v_NWD.dtype)
        pair = part.pair_cW.flatten()
        pair = torch.where(pair < 0, queries * slots, pair)
        out.index_copy_(0, pair, (share @ head.v_NWD[part.key_c]).flatten(0, 1))
        mass.index_copy_(0, pair, lse.flatten())
    return out[:-1].view(queries, slots, values), mass[:-1].view(queries, slots)


@dataclass(frozen=True, kw_only=True)
class HeadGradients:
    """Float32 accumulators of one head, views of those of all."""

    q_TE: Tensor
    k_NWE: Tensor
    v_NWD: Tensor
    s_NC: Tensor
    r_RC: Tensor


def backward(head: Head, mass_T: Tensor, delta_T: Tensor, grad_TD: Tensor, into: HeadGradients) -> None:
    """Add this part's gradients; arguments as in :func:`deepseek.models.attention.gathered.backward`."""
    width, content, distances = head.k_NWE.shape[1], head.s_NC.shape[-1], head.r_RC.shape[0]
    for part in tiles(head):
        real = (part.pair_cW >= 0)[..., None]
        query = part.query_cW.flatten()
        grad = grad_TD.index_select(0, query).view(*part.query_cW.shape, -1)
        share = (part.logits(width) - mass_T[part.query_cW][..., None]).exp_() * real
        share = share.to(grad.dtype)
        v = head.v_NWD[part.key_c]
        into.v_NWD.index_add_(0, part.key_c, (share.transpose(-1, -2) @ grad).float())
        inner = (grad @ v.transpose(-1, -2)).sub_(delta_T[part.query_cW][..., None])
        grad_logits = share.mul_(inner)
        whole = grad_logits.sum(-1, keepdim=True, dtype=torch.float32)
        far = torch.zeros(*whole.shape[:-1], distances, device=whole.device).scatter_(-1, part.bucket_cW[..., None], whole)
        q = part.q_cWE
        grad_q = grad_logits @ head.k_NWE[part.key_c]
        s = head.s_NC[part.key_c].float()[:, None]
        grad_content = whole * s + far @ head.r_RC.float()
        grad_q = grad_q.float()
        grad_q[..., :content] += grad_content
        into.q_TE.index_add_(0, query, grad_q.flatten(0, 1))
        into.k_NWE.index_add_(0, part.key_c, (grad_logits.transpose(-1, -2) @ q).float())
        q_content = q[..., :content].float()
        into.s_NC.index_add_(0, part.key_c, (whole.transpose(-1, -2) @ q_content).squeeze(1))
        into.r_RC.add_((far.flatten(0, 1).T @ q_content.flatten(0, 1)))

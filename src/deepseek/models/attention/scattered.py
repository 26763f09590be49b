"""Single queries against the key blocks that each of them chose: the far part of causal attention.

Queries that chose the same block meet it in tiles (:mod:`.pairs`). A tile's softmax is of its own block; a query's
blocks, and its neighbourhood, are put together by the logarithms of their sums. Gate and distance are constant within a
block and enter there.

Plain PyTorch, for any device, one head at a time. Time O(T k W (E + D)) for k blocks a query, and O(T k log(T k)) for
the sort; memory O(T k D) for one head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from deepseek.models.attention.blocks import LOW, BlockLayout, low
from deepseek.models.attention.gathered import softmax_with_mass
from deepseek.models.attention.pairs import tiled

TILES = 64
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


@dataclass(frozen=True)
class Tiles:
    """A chunk of c tiles: W queries each, of which some at the end are none, against one key block."""

    pair_cW: Tensor
    """The pair's number, query * k + slot; -1 for none."""
    query_cW: Tensor
    key_c: Tensor
    bucket_cW: Tensor
    q_cWE: Tensor
    logits_cWW: Tensor
    """Without what is the same for the whole block."""
    term_cW: Tensor
    """What is: gate and distance, float32."""


def tiles(head: Head) -> Iterator[Tiles]:
    """The pairs of a head in tiles, a chunk at a time."""
    blocks, width, _ = head.k_NWE.shape
    all_tiles = tiled(head.chosen_Tk, blocks, width)
    content = head.s_NC.shape[-1]
    extra_NCX = torch.cat([head.s_NC[:, None], head.r_RC.expand(blocks, -1, -1)], 1).transpose(-1, -2)
    bucket_of = head.layout.bucket(torch.arange(-blocks, blocks, device=head.q_TE.device))
    some_hidden_N = None if head.hidden_NW is None else head.hidden_NW.any(1)
    for start in range(0, len(all_tiles.key_t), TILES):
        pair_cW, key_c = all_tiles.pair_tW[start : start + TILES], all_tiles.key_t[start : start + TILES]
        query = all_tiles.query(pair_cW)
        q = head.q_TE.index_select(0, query.flatten()).view(*query.shape, -1)
        bucket = bucket_of[query // width - key_c[:, None] + blocks]
        logits = q @ head.k_NWE.index_select(0, key_c).transpose(-1, -2)
        if some_hidden_N is not None and head.hidden_NW is not None and some_hidden_N[key_c].any():
            logits = logits.masked_fill_(head.hidden_NW[key_c][:, None], low(logits.dtype))
        terms_cWX = q[..., :content] @ extra_NCX.index_select(0, key_c)
        term = terms_cWX[..., 0].float() + terms_cWX.gather(-1, bucket[..., None] + 1).squeeze(-1)
        yield Tiles(pair_cW, query, key_c, bucket, q, logits, term)


def room_for(head: Head) -> Tensor:
    """What :func:`forward` writes a head's pairs to; one row more takes what tiles have beyond their pairs."""
    pairs = head.chosen_Tk.numel()
    return torch.zeros(pairs + 1, head.v_NWD.shape[-1], dtype=head.v_NWD.dtype, device=head.q_TE.device)


def forward(head: Head, out: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of all pairs (T, k, D) and the logarithms of their sums (T, k), float32; -1e30 where there is no pair.

    Args:
        out: see :func:`room_for`; heads may share it. What it holds of a pair that is none has no meaning, but is
            finite.
    """
    queries, slots = head.chosen_Tk.shape
    values = out.shape[1]
    mass = torch.full((queries * slots + 1,), LOW, dtype=torch.float32, device=head.q_TE.device)
    for part in tiles(head):
        share, lse = softmax_with_mass(part.logits_cWW)
        pair = part.pair_cW.flatten()
        pair = torch.where(pair < 0, queries * slots, pair)
        out.index_copy_(0, pair, (share @ head.v_NWD.index_select(0, part.key_c)).flatten(0, 1))
        mass.index_copy_(0, pair, lse.add_(part.term_cW).flatten())
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
    content, distances = head.s_NC.shape[-1], head.r_RC.shape[0]
    r_RC = head.r_RC.float()
    for part in tiles(head):
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
        grad_q = (grad_logits @ head.k_NWE.index_select(0, part.key_c)).float()
        grad_q[..., :content] += whole * head.s_NC[part.key_c].float()[:, None] + far @ r_RC
        into.q_TE.index_add_(0, query, grad_q.flatten(0, 1))
        into.k_NWE.index_add_(0, part.key_c, (grad_logits.transpose(-1, -2) @ q).float())
        q_content = q[..., :content].float()
        into.s_NC.index_add_(0, part.key_c, (whole.transpose(-1, -2) @ q_content).squeeze(1))
        into.r_RC.add_(far.flatten(0, 1).T @ q_content.flatten(0, 1))

"""The shares of keys in what a layer's queries attend to, for who wants to look at them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from deepseek.models.attention.gate import choose
from deepseek.models.attention.reference import reference_shares

if TYPE_CHECKING:
    from deepseek.models.deepseek_base.attention_layer import AttentionInputs, GatedAttention


def attention_shares(layer: GatedAttention, q: Tensor, k: Tensor, inputs: AttentionInputs) -> Tensor:
    """By the formula, as the layer would choose: T x L numbers a head, (B, H, T, L); 0 for padding before texts.

    Args:
        q: (B, H, T, E), of the last T tokens.
        k: (B, H, L, E), of all.
    """
    if inputs.starts is not None:
        return torch.cat([_of_text(layer, q, k, inputs, text, start) for text, start in enumerate(inputs.starts)])
    layout, until = layer.layout, inputs.dense_until
    queries, keys = q.shape[2], k.shape[2]
    past = keys - queries
    gate = layer.gate(k, inputs)
    shares = partial(
        reference_shares, q, k, gate.term, gate.rows, layout, scale=layer.scale, key_mask_BL=inputs.mask_BL
    )
    if keys <= until:
        return shares()
    content = layer.scale * q[..., : layer.content_dim]
    if past:
        lead = past % layout.width  # the search wants whole blocks of queries
        content = functional.pad(content, (0, 0, lead, 0))
        first = past // layout.width
        chosen = choose(content, gate.scored, gate.rows, layout, choice="token", first_block=first)[:, :, lead:]
    else:
        kind = "token" if layout.causal else "block"
        chosen = choose(content, gate.scored, gate.rows, layout, choice=kind, query_mask_BT=inputs.mask_BL)
    sparse = shares(chosen=chosen)
    dense = min(max(until - past, 0), queries) if layout.causal else 0
    return torch.cat([shares()[:, :, :dense], sparse[:, :, dense:]], 2) if dense else sparse


def _of_text(layer: GatedAttention, q: Tensor, k: Tensor, inputs: AttentionInputs, text: int, start: int) -> Tensor:
    """Of one text whose first token is ``start``."""
    queries, keys = q.shape[2], k.shape[2]
    lead = min(max(start - (keys - queries), 0), queries)
    found = q.new_zeros(1, q.shape[1], queries, keys)
    if lead < queries:
        one = slice(text, text + 1)
        mask = None if inputs.mask_BL is None else inputs.mask_BL[one, start:]
        alone = replace(inputs, mask_BL=mask, starts=None)
        found[:, :, lead:, start:] = attention_shares(layer, q[one, :, lead:], k[one, :, start:], alone)
    return found

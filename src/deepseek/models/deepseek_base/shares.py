"""The shares of keys in what a layer's queries attend to, for who wants to look at them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

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
        return torch.cat([_of_text(layer, q, k, inputs, text) for text in range(len(inputs.starts))])
    layout, until = layer.layout, inputs.dense_until
    queries, keys = q.shape[2], k.shape[2]
    past = keys - queries
    gate = layer.gate(k, inputs)
    shares = partial(
        reference_shares, q, k, gate.term, gate.rows, layout, scale=layer.scale, key_mask_BL=inputs.mask_BL
    )
    if keys <= until:
        return shares()
    sparse = shares(chosen=layer.chosen(q, gate, past=past))
    dense = min(max(until - past, 0), queries) if layout.causal else 0
    return torch.cat([shares()[:, :, :dense], sparse[:, :, dense:]], 2) if dense else sparse


def _of_text(layer: GatedAttention, q: Tensor, k: Tensor, inputs: AttentionInputs, text: int) -> Tensor:
    assert inputs.starts is not None
    queries, keys = q.shape[2], k.shape[2]
    some, alone = inputs.of_text(text, queries=queries, keys=keys)
    found = q.new_zeros(1, q.shape[1], queries, keys)
    if some.start < queries:
        one, start = slice(text, text + 1), inputs.starts[text]
        found[:, :, some, start:] = attention_shares(layer, q[one, :, some], k[one, :, start:], alone)
    return found

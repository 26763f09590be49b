"""DeepSeek-Base with other position encodings in the place of its own, everything else the same.

- ``absolute``: a learned vector for each position, added to the embeddings (BERT, arXiv:1810.04805).
- ``rope``: all features of queries and keys turn, base 10,000 (RoFormer, arXiv:2104.09864).
- ``alibi``: a fixed slope a head over the distance (arXiv:2108.12409).
- ``t5``: a learned number for each of 32 log-spaced distance buckets up to 128 and head (arXiv:1910.10683).

Dense attention, run in chunks of queries where a text is long, so that masks of all pairs are not kept.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = ("absolute", "rope", "alibi", "t5")
CHUNK = 1_024
"""Queries at a time."""


class PeerAttention(nn.Module):
    """Causal or bidirectional multi-head attention; takes what :class:`GatedAttention` takes."""

    def __init__(self, ours: Any, kind: str, hidden: int, causal: bool) -> None:
        super().__init__()
        self.kind, self.causal, self.heads, self.width = kind, causal, ours.heads, ours.value_dim
        self.query_key_value = nn.Linear(hidden, 3 * self.heads * self.width)
        self.output = nn.Linear(self.heads * self.width, hidden)
        nn.init.normal_(self.query_key_value.weight, std=0.02)
        nn.init.zeros_(self.query_key_value.bias)
        self.output.load_state_dict(ours.output.state_dict())
        if kind == "t5":
            self.bias = nn.Parameter(torch.zeros(self.heads, 32 if causal else 64))
        slopes = 2.0 ** (-8 * torch.arange(1, self.heads + 1) / self.heads)
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, x_BTM: Tensor, inputs: Any, cache: None = None) -> Tensor:  # noqa: N803
        """(B, T, M) to (B, T, M)."""
        batch, tokens, _ = x_BTM.shape
        q, k, v = self.query_key_value(x_BTM).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.kind == "rope":
            q, k = _turned(q), _turned(k)
        parts = []
        step = tokens if tokens <= CHUNK else CHUNK
        for start in range(0, tokens, step):
            end = min(start + step, tokens)
            mask = self._mask(start, end, tokens, inputs.mask_BL, q)
            reach = end if self.causal else tokens
            parts.append(
                functional.scaled_dot_product_attention(
                    q[:, :, start:end], k[:, :, :reach], v[:, :, :reach], attn_mask=mask[..., :reach]
                )
            )
        mixed = torch.cat(parts, 2) if len(parts) > 1 else parts[0]
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, -1))

    def _mask(self, start: int, end: int, tokens: int, real_BL: Tensor | None, q: Tensor) -> Tensor:  # noqa: N803
        query = torch.arange(start, end)[:, None]
        distance = query - torch.arange(tokens)
        mask = torch.zeros(1, 1, end - start, tokens)
        if self.kind == "alibi":
            mask = -self.slopes[:, None, None] * distance.abs()
        elif self.kind == "t5":
            mask = self.bias[:, _t5_bucket(distance, self.causal)]
        mask = mask.to(q.dtype).expand(1, -1, -1, -1) if mask.dim() == 3 else mask.to(q.dtype)
        low = torch.finfo(q.dtype).min
        if self.causal:
            mask = mask.masked_fill(distance < 0, low)
        if real_BL is not None:
            mask = mask.masked_fill(~real_BL[:, None, None], low)
        return mask


class AbsoluteEmbeddings(nn.Module):
    """Embeddings with a learned vector for each of ``positions`` places; there are none beyond."""

    def __init__(self, ours: Any, positions: int, hidden: int) -> None:
        super().__init__()
        self.ours, self.places = ours, nn.Embedding(positions, hidden)
        self.tokens = ours.tokens
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, input_ids: Tensor, token_type_ids: Any, inputs_embeds: Any) -> Tensor:
        """(B, T) to (B, T, M)."""
        x = self.ours.tokens(input_ids) + self.places.weight[: input_ids.shape[1]]
        return self.ours.dropout(self.ours.norm(x))


def replace_positions(model: Any, kind: str, *, positions: int) -> None:
    """Give a DeepSeek-Base model the positions of a peer, in place.

    Args:
        model: with or without a head.
        positions: trained places, for ``absolute``.
    """
    body = getattr(model, "model", model)
    config = body.config
    for layer in body.layers:
        layer.attention = PeerAttention(layer.attention, kind, config.hidden_size, config.causal)
    if kind == "absolute":
        body.embeddings = AbsoluteEmbeddings(body.embeddings, positions, config.hidden_size)


def _turned(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-torch.arange(half) / half)
    angle = torch.arange(x.shape[2])[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _t5_bucket(distance: Tensor, causal: bool, buckets: int = 32, most: int = 128) -> Tensor:
    """Half of the buckets for exact distances, half log-spaced to ``most``; keys after the query have their own."""
    size = distance.abs()
    exact = buckets // 2
    ratio = (size.clamp(min=1).float() / exact).log() / math.log(most / exact)
    far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    bucket = torch.where(size < exact, size, far)
    return bucket if causal else bucket + buckets * (distance < 0)

"""One layer's gated attention: projections, positions, gate, and the path that fits the text's length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.cached import cached_attention
from deepseek.models.attention.dense import dense_attention
from deepseek.models.attention.gate import choose
from deepseek.models.attention.pooling import Level, pool_blocks
from deepseek.models.attention.positions import relative_rows, rotate
from deepseek.models.attention.sparse import sparse_attention
from deepseek.models.deepseek_base.cache import GatedCacheLayer
from deepseek.models.deepseek_base.config import DeepSeekBaseConfig


@dataclass(frozen=True, kw_only=True)
class AttentionInputs:
    """What all layers of one forward pass share.

    Attributes:
        tables: cosines and sines of the rotary features.
        mask_BL: true for tokens, false for padding; ``None`` if there is none.
        sparse: whether the gate chooses, or all blocks take part.
        exporting: whether a graph for any length is being traced.
    """

    tables: tuple[Tensor, Tensor]
    mask_BL: Tensor | None
    sparse: bool
    exporting: bool


class GatedAttention(nn.Module):
    """Multi-head attention with dynamic positional encoding and the sparse activation gate.

    Weights beside the projections, a head: ``relative_steps`` (the relative-position matrix, as steps between
    distances), ``saliency`` (how tokens weigh in their block's summary) and ``gate_weight`` (what a summary adds to the
    logits of its block). All begin at 0: plain attention, with blocks chosen by their mean key.
    """

    def __init__(self, config: DeepSeekBaseConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.layout: BlockLayout = config.layout()
        self.heads, self.value_dim = config.num_attention_heads, config.head_dim
        self.content_dim = config.content_dim
        self.key_dim = config.content_dim + config.rotary_dim
        self.scale = config.head_dim**-0.5
        widths = self.heads * (2 * self.key_dim + self.value_dim)
        self.query_key_value = nn.Linear(config.hidden_size, widths)
        self.output = nn.Linear(self.heads * self.value_dim, config.hidden_size)
        self.relative_steps = nn.Parameter(
            torch.zeros(self.heads, self.layout.sides, config.distance_buckets, config.content_dim)
        )
        self.saliency = nn.Parameter(torch.zeros(self.heads, config.content_dim))
        self.gate_weight = nn.Parameter(torch.zeros(self.heads))

    def forward(self, hidden_BTM: Tensor, inputs: AttentionInputs, cache: GatedCacheLayer | None = None) -> Tensor:
        """(B, T, M) to (B, T, M)."""
        q, k, v = self.project(hidden_BTM, inputs.tables)
        tokens = q.shape[2]
        if cache is None:
            mixed = self._whole(q, k, v, inputs)
        else:
            past = cache.get_seq_length()
            k, v = cache.update(k, v)
            leaves = cache.summaries(self._pool, inputs.mask_BL, self.layout.width)
            if past == 0:
                mixed = self._whole(q, k, v, inputs, leaves)
            else:
                mixed = self._continued(q, k, v, inputs, leaves)
        return self.output(mixed.transpose(1, 2).reshape(hidden_BTM.shape[0], tokens, -1))

    def project(self, hidden_BTM: Tensor, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, .), turned by their positions."""
        batch, tokens, _ = hidden_BTM.shape
        mixed = self.query_key_value(hidden_BTM).view(batch, tokens, self.heads, -1)
        q, k, v = mixed.split([self.key_dim, self.key_dim, self.value_dim], -1)
        if self.key_dim > self.content_dim:
            q, k = rotate(q, tables), rotate(k, tables)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def relative(self, dtype: torch.dtype) -> Tensor:
        """The relative-position matrix's rows, (H, R, C)."""
        return relative_rows(self.relative_steps).to(dtype)

    def _pool(self, k_BHTE: Tensor, mask_BT: Tensor | None) -> Level:
        return pool_blocks(k_BHTE[..., : self.content_dim], self.saliency, self.layout.width, mask_BT)

    def gate_keys(self, leaves: Level) -> tuple[Tensor, Level]:
        """What the gate adds to keys of each block, and the summaries that the search scores: with that added."""
        weight = self.gate_weight.to(leaves.keys.dtype)[:, None, None]
        term = weight * leaves.keys
        return term, Level(leaves.keys + term, leaves.mass, leaves.span)

    def _whole(self, q: Tensor, k: Tensor, v: Tensor, inputs: AttentionInputs, leaves: Level | None = None) -> Tensor:
        layout = self.layout
        rows = self.relative(q.dtype)
        if not inputs.sparse and not inputs.exporting and layout.neighbourly(layout.blocks(q.shape[2])):
            return dense_attention(q, k, v, None, rows, layout, scale=self.scale, key_mask_BL=inputs.mask_BL)
        leaves = leaves or self._pool(k, inputs.mask_BL)
        term, scored = self.gate_keys(leaves)
        if not inputs.sparse:
            return dense_attention(q, k, v, term, rows, layout, scale=self.scale, key_mask_BL=inputs.mask_BL)
        choice = "token" if layout.causal else "block"
        content = self.scale * q[..., : self.content_dim]
        chosen = choose(content, scored, rows, layout, choice=choice, query_mask_BT=inputs.mask_BL)
        return sparse_attention(
            q, k, v, term, rows, layout, scale=self.scale, chosen=chosen, key_mask_BT=inputs.mask_BL
        )

    def _continued(self, q: Tensor, k: Tensor, v: Tensor, inputs: AttentionInputs, leaves: Level) -> Tensor:
        layout = self.layout
        rows = self.relative(q.dtype)
        term, scored = self.gate_keys(leaves)
        if not inputs.sparse:
            return dense_attention(q, k, v, term, rows, layout, scale=self.scale, key_mask_BL=inputs.mask_BL)
        past = k.shape[2] - q.shape[2]
        lead = past % layout.width  # the search wants whole blocks of queries
        content = nn.functional.pad(self.scale * q[..., : self.content_dim], (0, 0, lead, 0))
        chosen = choose(content, scored, rows, layout, choice="token", first_block=past // layout.width)
        return cached_attention(
            q, k, v, term, rows, layout,
            scale=self.scale, chosen_BHTk=chosen[:, :, lead:], key_mask_BL=inputs.mask_BL,
        )  # fmt: skip

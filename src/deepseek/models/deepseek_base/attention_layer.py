"""One layer's gated attention: projections, positions, gate, and the path that fits the text's length."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from deepseek.models.attention.alignment import gate_alignment_loss
from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.cached import cached_attention
from deepseek.models.attention.dense import dense_attention
from deepseek.models.attention.gate import Choice, choose
from deepseek.models.attention.pooling import Level, pool_blocks
from deepseek.models.attention.positions import (
    Turns,
    first_looks,
    leaving_far_blocks,
    looking_at,
    relative_rows,
    rotate,
)
from deepseek.models.attention.sparse import sparse_attention
from deepseek.models.deepseek_base.cache import GatedCacheLayer
from deepseek.models.deepseek_base.config import DeepSeekBaseConfig
from deepseek.models.deepseek_base.shares import attention_shares

FUSED = 8_192
"""Keys up to which dense attention is one fused call, with a feature for each block; beyond, they make it slow."""


@dataclass(frozen=True, kw_only=True)
class AttentionInputs:
    """What all layers of one forward pass share.

    Attributes:
        tables: cosines and sines of the rotary features.
        turns: the same, to turn features in place; where no gradient is asked for, on a CPU.
        mask_BL: true for tokens, false for padding; ``None`` if there is none.
        starts: each text's first token, where padding stands before a text: its blocks are counted from there, so that
            padding changes nothing of what it gets. ``None`` if there is no such padding.
        shares: where layers leave the shares of keys, (B, H, T, L); ``None`` if nobody asks.
        only_behind: whether all padding stands behind texts of a causal model, whose tokens do not look there.
        dense_until: tokens up to which all blocks take part. A longer bidirectional text is sparse as a whole, of a
            causal one the tokens from there on are.
        exporting: whether a graph for any length is being traced.
        gate_losses: where layers leave what their gates have to learn; ``None`` if nobody asks.
        scored_BT: from which tokens they learn it; ``None`` for all.
    """

    tables: tuple[Tensor, Tensor]
    mask_BL: Tensor | None
    dense_until: int
    exporting: bool
    gate_losses: list[Tensor] | None = None
    scored_BT: Tensor | None = None
    turns: Turns | None = None
    starts: tuple[int, ...] | None = None
    only_behind: bool = False
    shares: list[Tensor] | None = None

    def of_text(self, text: int, *, queries: int, keys: int) -> tuple[slice, AttentionInputs]:
        """Which of the last queries of all keys are one text's, and what its attention is told without the others."""
        assert self.starts is not None
        start = self.starts[text]
        mask = None if self.mask_BL is None else self.mask_BL[text : text + 1, start:]
        if mask is not None and bool(mask.all()):
            mask = None
        lead = min(max(start - (keys - queries), 0), queries)
        scored = None if self.scored_BT is None else self.scored_BT[text : text + 1, lead:]
        return slice(lead, queries), replace(self, mask_BL=mask, starts=None, scored_BT=scored)


def _own_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Attention chooses the precision of each of its sums itself; autocast would round some of them."""
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else contextlib.nullcontext()


class GatedAttention(nn.Module):
    """Multi-head attention with dynamic positional encoding and the sparse activation gate.

    Weights beside the projections, a head: ``relative_steps`` (the relative-position matrix, as steps between
    distances), ``saliency`` (how tokens weigh in their block's summary), ``sharpness`` (how far the more salient blocks
    stand for the others in the search) and ``gate_weight`` (what a summary adds to the logits of its block). The last
    three, the gate's own, begin at 0 (all tokens of a block, and all blocks, weigh alike) and are multiplied by
    ``gate_multiplier`` where they are used. Biases of queries and keys, and the first of the relative steps, begin so
    that half of the heads look at neighbours (:func:`deepseek.models.attention.positions.first_looks`).
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
        self.output.ends_a_branch = True
        self.relative_steps = nn.Parameter(
            torch.zeros(self.heads, self.layout.sides, config.distance_buckets, config.content_dim)
        )
        self.loss_queries, self.multiplier = config.gate_loss_queries, config.gate_multiplier
        self.saliency = nn.Parameter(torch.zeros(self.heads, config.content_dim))
        self.sharpness = nn.Parameter(torch.zeros(self.heads))
        self.gate_weight = nn.Parameter(torch.zeros(self.heads))

    @torch.no_grad()
    def first_positions(self, config: DeepSeekBaseConfig) -> tuple[Tensor, Tensor]:
        """The projection's bias and the relative steps that training starts with: some heads look at neighbours."""
        looks = first_looks(self.heads, self.layer_idx, causal=config.causal)
        strength = config.rotary_start / self.scale if config.rotary_dim else 0.0
        query, key = looking_at(
            looks,
            config.rotary_dim,
            strength=strength,
            shortest=config.rotary_shortest,
            longest=config.rotary_longest,
        )
        content, step = leaving_far_blocks(looks, self.content_dim, strength=strength)
        value = query.new_zeros(self.heads, self.value_dim)
        steps = torch.zeros_like(self.relative_steps, device="cpu")
        steps[:, :, 0] = step[:, None]
        return torch.cat([content, query, torch.zeros_like(content), key, value], 1).flatten(), steps

    def forward(self, hidden_BTM: Tensor, inputs: AttentionInputs, cache: GatedCacheLayer | None = None) -> Tensor:
        """(B, T, M) to (B, T, M)."""
        q, k, v = self.project(hidden_BTM, inputs.tables, inputs.turns)
        tokens = q.shape[2]
        with _own_precision(q.device):
            mixed = self._mixed(q, k, v, inputs, cache)
            if inputs.shares is not None:
                inputs.shares.append(attention_shares(self, q, k if cache is None else cache.keys, inputs))
        mixed_BTHD = mixed.transpose(1, 2)
        if inputs.exporting:  # the order in memory is the kernel's here, another one's where the graph will run
            mixed_BTHD = mixed_BTHD.clone(memory_format=torch.contiguous_format)
        return self.output(mixed_BTHD.reshape(hidden_BTM.shape[0], tokens, -1))

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, inputs: AttentionInputs, cache: GatedCacheLayer | None) -> Tensor:
        past = 0
        if cache is not None:
            past = cache.get_seq_length()
            k, v = cache.update(k, v)
        if inputs.starts is not None and not self.layout.neighbourly(self.layout.blocks(k.shape[2])):
            return self._each(q, k, v, inputs, inputs.starts, cache)
        if cache is None:
            return self._whole(q, k, v, inputs)
        leaves = cache.summaries(self.summaries, inputs.mask_BL, self.layout.width)
        return self._continued(q, k, v, inputs, leaves) if past else self._whole(q, k, v, inputs, leaves)

    def _each(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: AttentionInputs,
        starts: tuple[int, ...],
        cache: GatedCacheLayer | None,
    ) -> Tensor:
        """One text after the other, each from its first token on; zeros for padding before it."""
        mixed = []
        for text, start in enumerate(starts):
            some, alone = inputs.of_text(text, queries=q.shape[2], keys=k.shape[2])
            lead = some.start
            if lead == q.shape[2]:
                mixed.append(v.new_zeros(1, self.heads, lead, v.shape[-1]))
                continue
            one = slice(text, text + 1)
            parts = q[one, :, some], k[one, :, start:], v[one, :, start:]
            leaves = None
            if cache is not None:
                leaves = cache.summaries_of(text, start, self.summaries, alone.mask_BL, self.layout.width)
            if leaves is not None and parts[0].shape[2] < parts[1].shape[2]:
                got = self._continued(*parts, alone, leaves)
            else:
                got = self._whole(*parts, alone, leaves)
            mixed.append(nn.functional.pad(got, (0, 0, lead, 0)))
        return torch.cat(mixed)

    def project(
        self, hidden_BTM: Tensor, tables: tuple[Tensor, Tensor], turns: Turns | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, .), turned by their positions: in place, if ``turns`` are given."""
        batch, tokens, _ = hidden_BTM.shape
        mixed = self.query_key_value(hidden_BTM).view(batch, tokens, self.heads, -1)
        turning = self.key_dim > self.content_dim
        if turning and turns is not None and turns.dtype == mixed.dtype:
            turns.turn_(mixed[..., : 2 * self.key_dim].unflatten(-1, (2, self.key_dim)))
            turning = False
        q, k, v = mixed.split([self.key_dim, self.key_dim, self.value_dim], -1)
        if turning:
            # under autocast the tables are wider than what the projection gives, and attention wants one precision
            q, k = (rotate(x, tables).to(mixed.dtype) for x in (q, k))
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def relative(self, dtype: torch.dtype) -> Tensor:
        """The relative-position matrix's rows, (H, R, C)."""
        return relative_rows(self.relative_steps).to(dtype)

    def summaries(self, k_BHTE: Tensor, mask_BT: Tensor | None, spare: int = 0) -> Level:
        """The summaries of the blocks of (B, H, T, E) keys."""
        content_BHTC = k_BHTE[..., : self.content_dim]
        saliency, sharpness = self.multiplier * self.saliency, self.multiplier * self.sharpness
        return pool_blocks(content_BHTC, saliency, self.layout.width, mask_BT, sharpness_H=sharpness, spare=spare)

    def gate_keys(self, leaves: Level) -> tuple[Tensor, Level]:
        """What the gate adds to keys of each block, and the summaries that the search scores: with that added."""
        weight = (self.multiplier * self.gate_weight).to(leaves.keys.dtype)[:, None, None]
        term = weight * leaves.keys
        return term, Level(leaves.keys + term, leaves.mass, leaves.span)

    def gate(self, k: Tensor, inputs: AttentionInputs, leaves: Level | None = None) -> Gate:
        """The gate for a text of these keys, with their summaries if they are at hand."""
        return Gate(self, k, inputs, leaves)

    def chosen(self, q: Tensor, gate: Gate, *, past: int = 0) -> Tensor:
        """The far blocks of queries after so many tokens: those of each token in a decoder, else of each block."""
        content = q[..., : self.content_dim]
        if not past:
            choice: Choice = "token" if self.layout.causal else "block"
            mask = gate.inputs.mask_BL
            return choose(
                content, gate.scored, gate.rows, self.layout, choice=choice, query_mask_BT=mask, scale=self.scale
            )
        first, lead = divmod(past, self.layout.width)  # the search wants whole blocks of queries
        content = nn.functional.pad(content, (0, 0, lead, 0))
        chosen = choose(
            content, gate.scored, gate.rows, self.layout, choice="token", first_block=first, scale=self.scale
        )
        return chosen[:, :, lead:]

    def _whole(self, q: Tensor, k: Tensor, v: Tensor, inputs: AttentionInputs, leaves: Level | None = None) -> Tensor:
        tokens, until, causal = q.shape[2], inputs.dense_until, self.layout.causal
        gate = self.gate(k, inputs, leaves)
        if inputs.gate_losses is not None and not self.layout.neighbourly(self.layout.blocks(tokens)):
            self._leave_gate_loss(q, k, gate, inputs)
        if inputs.exporting or tokens <= until:
            return self._dense(q, k, v, gate)
        chosen = self.chosen(q, gate)
        mixed = sparse_attention(
            q, k, v, gate.term, gate.rows, self.layout, scale=self.scale, chosen=chosen, key_mask_BT=inputs.mask_BL
        )
        if not causal or not until:
            return mixed
        start = self._dense(q[:, :, :until], k[:, :, :until], v[:, :, :until], gate)
        return torch.cat([start, mixed[:, :, until:]], 2)

    def _leave_gate_loss(self, q: Tensor, k: Tensor, gate: Gate, inputs: AttentionInputs) -> None:
        loss = gate_alignment_loss(
            q, k, gate.term, gate.scored, gate.rows, self.layout,
            scale=self.scale, queries=self.loss_queries, key_mask_BT=inputs.mask_BL, scored_BT=inputs.scored_BT,
        )  # fmt: skip
        if loss is not None and inputs.gate_losses is not None:
            inputs.gate_losses.append(loss)

    def _dense(self, q: Tensor, k: Tensor, v: Tensor, gate: Gate) -> Tensor:
        """Attention of the last queries of ``k``, which may be the beginning of the gate's text."""
        layout, keys, inputs = self.layout, k.shape[2], gate.inputs
        mask = None if inputs.mask_BL is None or inputs.only_behind else inputs.mask_BL[:, :keys]
        if not inputs.exporting and layout.neighbourly(layout.blocks(keys)):
            return dense_attention(q, k, v, None, None, layout, scale=self.scale, key_mask_BL=mask)
        # the last block may be pooled over more than the beginning: it is near to all that ask. A spare one stays
        term = gate.term if inputs.exporting else gate.term[:, :, : layout.blocks(keys)]
        if not inputs.exporting and keys > FUSED and q.shape[2] == keys:
            return sparse_attention(q, k, v, term, gate.rows, layout, scale=self.scale, key_mask_BT=mask)
        return dense_attention(q, k, v, term, gate.rows, layout, scale=self.scale, key_mask_BL=mask)

    def _continued(self, q: Tensor, k: Tensor, v: Tensor, inputs: AttentionInputs, leaves: Level) -> Tensor:
        layout, queries = self.layout, q.shape[2]
        past = k.shape[2] - queries
        dense = min(max(inputs.dense_until - past, 0), queries)
        gate = self.gate(k, inputs, leaves)
        parts = []
        if dense:
            reach = past + dense
            parts.append(self._dense(q[:, :, :dense], k[:, :, :reach], v[:, :, :reach], gate))
        if dense < queries:
            chosen = self.chosen(q[:, :, dense:], gate, past=past + dense)
            parts.append(
                cached_attention(
                    q[:, :, dense:], k, v, gate.term, gate.rows, layout,
                    scale=self.scale, chosen_BHTk=chosen, key_mask_BL=inputs.mask_BL,
                )
            )  # fmt: skip
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


class Gate:
    """A layer's gate and distances for one text, each made when it is first asked for, and once."""

    def __init__(self, layer: GatedAttention, k: Tensor, inputs: AttentionInputs, leaves: Level | None) -> None:
        self.layer, self.k, self.inputs, self._leaves = layer, k, inputs, leaves

    @cached_property
    def rows(self) -> Tensor:
        """The relative-position matrix's rows."""
        return self.layer.relative(self.k.dtype)

    @cached_property
    def _keys(self) -> tuple[Tensor, Level]:
        leaves = self._leaves or self.layer.summaries(self.k, self.inputs.mask_BL, spare=int(self.inputs.exporting))
        return self.layer.gate_keys(leaves)

    @property
    def term(self) -> Tensor:
        """What the gate adds to keys of each block."""
        return self._keys[0]

    @property
    def scored(self) -> Level:
        """The summaries that the search scores."""
        return self._keys[1]

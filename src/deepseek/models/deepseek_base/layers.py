"""Embeddings, feed-forward network and layer of DeepSeek-Base."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from deepseek.models.deepseek_base.attention_layer import AttentionInputs, GatedAttention
from deepseek.models.deepseek_base.cache import GatedCacheLayer
from deepseek.models.deepseek_base.config import DeepSeekBaseConfig
from deepseek.models.deepseek_base.gated_gelu import gated_gelu


class Embeddings(nn.Module):
    """Tokens (and which text of a pair they are of), normalised. No positions: attention has them."""

    def __init__(self, config: DeepSeekBaseConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.types = nn.Embedding(config.type_vocab_size, config.hidden_size) if config.type_vocab_size else None
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, input_ids: Tensor | None, token_type_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """(B, T) numbers, or (B, T, M) embeddings, to (B, T, M)."""
        x = self.tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if self.types is not None:
            x = x + (self.types.weight[0] if token_type_ids is None else self.types(token_type_ids))
        return self.dropout(self.norm(x))


class FeedForward(nn.Module):
    """Two matrices around an activation, or three with a gate (GEGLU)."""

    def __init__(self, config: DeepSeekBaseConfig) -> None:
        super().__init__()
        # a matrix of its own: halves of one product's rows do not lie together, which costs the activation its speed
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size) if config.gated_mlp else None
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)
        self.down_proj.ends_a_branch = True
        self.activation = ACT2FN[config.hidden_act]
        self.by_gelu = config.hidden_act == "gelu"

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, M) to (B, T, M)."""
        inner = self.up_proj(x)
        if self.gate_proj is None:
            return self.down_proj(self.activation(inner))
        gate = self.gate_proj(x)
        return self.down_proj(gated_gelu(gate, inner) if self.by_gelu else self.activation(gate) * inner)


class DeepSeekBaseLayer(GradientCheckpointingLayer):
    """Attention and feed-forward network with their residuals; normalised before or after."""

    def __init__(self, config: DeepSeekBaseConfig, layer_idx: int) -> None:
        super().__init__()
        self.post = config.norm_placement == "post"
        self.attention = GatedAttention(config, layer_idx)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = FeedForward(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, inputs: AttentionInputs, cache: GatedCacheLayer | None = None, **_: Any) -> Tensor:
        """(B, T, M) to (B, T, M)."""
        if self.post:
            x = self.attention_norm(x + self.dropout(self.attention(x, inputs, cache)))
            return self.mlp_norm(x + self.dropout(self.mlp(x)))
        x = x + self.dropout(self.attention(self.attention_norm(x), inputs, cache))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))

"""Weights of a BERT at their places in DeepSeek-Base, bit for bit.

Rows of the fused projection, for each head: query content, query rotary, key content, key rotary, value. The content
rows are BERT's queries and keys, whole. Rotary rows are additional: those of queries begin small and random, those of
keys at 0, so that they add nothing yet and can be trained (both at 0 would have no gradient). With BERT's position
embeddings at zero both models compute the same, up to the order of additions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deepseek.errors import ConfigError
from deepseek.models.conversion.source import Source
from deepseek.models.deepseek_base import (
    DeepSeekBaseConfig,
    DeepSeekBaseForMaskedLM,
    DeepSeekBaseForTokenClassification,
    DeepSeekBaseModel,
)

if TYPE_CHECKING:
    from deepseek.models.deepseek_base import DeepSeekBasePreTrainedModel
    from deepseek.models.deepseek_base.attention_layer import GatedAttention

BEGINNING = 0.4
"""Length of a rotary query row."""
ROTARY = 32
"""Rotary features a head, beside all of BERT's: half as many fit nearly as well, twice as many no better."""
_FREE = frozenset(
    {
        "rotary_dim", "rotary_shortest", "rotary_longest", "attention_mode", "dense_until", "block_width",
        "local_blocks", "sink_blocks", "gate_rate", "gate_least", "distance_buckets", "gate_branching", "gate_beam",
        "gate_roots", "gate_loss_weight", "gate_loss_queries", "gate_multiplier", "classifier_pooling",
        "max_position_embeddings",
    }
)  # fmt: skip
"""Fields of the config that the old checkpoint does not settle."""
_LAYER = {
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "mlp.up_proj": "intermediate.dense",
    "mlp.down_proj": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
_BERT_HEAD = {
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "decoder": "cls.predictions.decoder",
}
_ROBERTA_HEAD = {"head.dense": "lm_head.dense", "head.norm": "lm_head.layer_norm", "decoder": "lm_head.decoder"}


def config_for(source: Source, **overrides: Any) -> DeepSeekBaseConfig:
    """The config of the converted model.

    Args:
        overrides: fields that the old checkpoint does not settle, such as ``rotary_dim`` or ``block_width``.

    Raises:
        ConfigError: a field is settled by the old checkpoint, or there is none of that name.
    """
    if wrong := sorted(overrides.keys() - _FREE):
        raise ConfigError(
            f"{', '.join(wrong)}: expected fields that the checkpoint does not settle ({', '.join(sorted(_FREE))})"
        )
    old = source.model.config
    longest = float(len(source.positions))
    dropout = old.hidden_dropout_prob
    fields: dict[str, Any] = {
        "vocab_size": old.vocab_size,
        "hidden_size": old.hidden_size,
        "num_hidden_layers": old.num_hidden_layers,
        "num_attention_heads": old.num_attention_heads,
        "intermediate_size": old.intermediate_size,
        "hidden_act": old.hidden_act,
        "gated_mlp": False,
        "norm_placement": "post",
        "hidden_dropout": dropout,
        "classifier_dropout": dropout if old.classifier_dropout is None else old.classifier_dropout,
        "layer_norm_eps": old.layer_norm_eps,
        "content_dim": old.hidden_size // old.num_attention_heads,
        "rotary_dim": ROTARY,
        "rotary_shortest": min(4.0, longest),
        "rotary_longest": longest,
        "rotary_start": 0.0,
        "type_vocab_size": old.type_vocab_size,
        "initializer_range": old.initializer_range,
        "pad_token_id": old.pad_token_id,
        "bos_token_id": old.bos_token_id,
        "eos_token_id": old.eos_token_id,
        "tie_word_embeddings": old.tie_word_embeddings,
    }
    if source.head.endswith("classification"):
        fields["id2label"] = old.id2label
        fields["label2id"] = old.label2id
    return DeepSeekBaseConfig(**fields | overrides)


@torch.no_grad()
def carry_over(source: Source, config: DeepSeekBaseConfig, *, seed: int) -> DeepSeekBasePreTrainedModel:
    """A model with the old weights, without positions. The head is the source's, if it can be carried over.

    Args:
        seed: of the rotary queries.
    """
    model: DeepSeekBasePreTrainedModel
    if source.head == "masked-lm":
        model = DeepSeekBaseForMaskedLM(config)
    elif source.head == "token-classification":
        model = DeepSeekBaseForTokenClassification(config)
    else:
        model = DeepSeekBaseModel(config)
    new, old = backbone_of(model), source.backbone
    random = torch.Generator().manual_seed(seed)
    new.embeddings.tokens.weight.copy_(old.get_submodule("embeddings.word_embeddings").weight)
    assert new.embeddings.types is not None  # BERT has one type of tokens or more
    new.embeddings.types.weight.copy_(old.get_submodule("embeddings.token_type_embeddings").weight)
    _copy(old, "embeddings.LayerNorm", new, "embeddings.norm")
    for index, layer in enumerate(new.layers):
        prefix = f"encoder.layer.{index}."
        for name, was in _LAYER.items():
            _copy(old, prefix + was, layer, name)
        for kind in ("weight", "bias"):
            parts = [
                getattr(old.get_submodule(f"{prefix}attention.self.{part}"), kind) for part in ("query", "key", "value")
            ]
            getattr(layer.attention.query_key_value, kind).copy_(fused(layer.attention, *parts))
        _begin(layer.attention, random)
    if source.head == "masked-lm":
        names = _BERT_HEAD if source.family == "bert" else _ROBERTA_HEAD
        for name, was in names.items():
            _copy(source.model, was, model, name)
    elif source.head == "token-classification":
        _copy(source.model, "classifier", model, "classifier")
    model.eval()
    return model


def backbone_of(model: DeepSeekBasePreTrainedModel) -> DeepSeekBaseModel:
    """The model without its head."""
    found: DeepSeekBaseModel = model if isinstance(model, DeepSeekBaseModel) else model.model
    return found


def fused(attention: GatedAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Rows (or biases) of three projections as those of one, with zeros for the rotary features."""
    rest = query.shape[1:]
    zeros = query.new_zeros(attention.heads, attention.key_dim - attention.content_dim, *rest)
    q, k, v = (part.view(attention.heads, -1, *rest) for part in (query, key, value))
    return torch.cat([q, zeros, k, zeros, v], 1).flatten(0, 1)


def new_parameters(model: DeepSeekBaseModel) -> int:
    """Weights that a BERT has no counterpart of: positions' and the gate's."""
    total = 0
    for layer in model.layers:
        attention = layer.attention
        total += int(rotary_rows(attention).sum()) * (model.config.hidden_size + 1)
        own = (attention.relative_steps, attention.saliency, attention.sharpness, attention.gate_weight)
        total += sum(w.numel() for w in own)
    return total


def rotary_rows(attention: GatedAttention) -> Tensor:
    """(rows,) which rows of the fused projection are rotary, as booleans."""
    content, key = attention.content_dim, attention.key_dim
    rows = torch.zeros(attention.heads, 2 * key + attention.value_dim, dtype=torch.bool)
    rows[:, content:key] = True
    rows[:, key + content : 2 * key] = True
    return rows.flatten()


def _begin(attention: GatedAttention, random: torch.Generator) -> None:
    """Small random rotary queries."""
    projection = attention.query_key_value
    queries = torch.arange(projection.out_features) % (2 * attention.key_dim + attention.value_dim) < attention.key_dim
    rows = rotary_rows(attention) & queries
    scale = BEGINNING * projection.in_features**-0.5
    for weight in (projection.weight, projection.bias):
        weight[rows] = (scale * torch.randn(weight[rows].shape, generator=random)).to(weight)


def _copy(old: nn.Module, was: str, new: nn.Module, name: str) -> None:
    before, after = old.get_submodule(was), new.get_submodule(name)
    after.weight.copy_(before.weight)
    after.bias.copy_(before.bias)

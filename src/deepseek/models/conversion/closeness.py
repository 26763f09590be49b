"""How near a converted model is to the one that it was made from, on texts that it was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from deepseek.models.conversion.mapping import backbone_of
from deepseek.models.deepseek_base import DeepSeekBaseModel, DeepSeekBasePreTrainedModel

PART = 4_096
"""Tokens of a pass."""
MASKED = 0.15
"""Share of tokens that are masked to compare predictions, as in BERT's training."""


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """Two models on the same texts of one length.

    Attributes:
        tokens: length of each text.
        texts: how many.
        text_cosine, text_cosine_least: of the texts' vectors (mean over tokens of the last hidden states): mean, least.
        token_cosine: mean over tokens of the last hidden states.
        same_prediction: share of masked tokens for which both rank the same token first; ``None`` without that head.
        divergence: mean Kullback-Leibler divergence of the predictions for masked tokens, in nats, from the old one's.
    """

    tokens: int
    texts: int
    text_cosine: float
    text_cosine_least: float
    token_cosine: float
    same_prediction: float | None = None
    divergence: float | None = None


@dataclass(frozen=True, kw_only=True)
class LongText:
    """A converted model beyond the old one's longest text.

    Attributes:
        tokens: length of each text.
        texts: how many.
        dense_cosine: of a text's vector with the one that dense attention of the same weights gives.
        parts_cosine: with the mean of the old model's vectors of the text's parts, each a quarter of the longest that
            it can read.
    """

    tokens: int
    texts: int
    dense_cosine: float
    parts_cosine: float


@torch.inference_mode()
def compare(
    old: PreTrainedModel,
    new: DeepSeekBasePreTrainedModel,
    windows_WT: Tensor,
    *,
    mask_token: int | None = None,
    seed: int = 0,
) -> Closeness:
    """Compare both models on texts of one length.

    Args:
        old: the original, with its head if ``mask_token`` is given.
        windows_WT: token numbers without padding.
        mask_token: number of the token that masks; ``None`` compares no predictions.
    """
    backbone = getattr(old, old.base_model_prefix, old)
    texts: list[Tensor] = []
    tokens: list[Tensor] = []
    same: list[Tensor] = []
    divergence: list[Tensor] = []
    random = torch.Generator().manual_seed(seed)
    for ids in windows_WT.split(max(1, PART // windows_WT.shape[1])):
        a, b = backbone(ids).last_hidden_state, backbone_of(new)(ids).last_hidden_state
        texts.append(cosine_similarity(a.mean(1), b.mean(1), dim=-1))
        tokens.append(cosine_similarity(a, b, dim=-1).flatten())
        if mask_token is not None:
            hidden = (torch.rand(ids.shape, generator=random) < MASKED).to(ids.device)
            masked = ids.masked_fill(hidden, mask_token)
            p, q = (model(masked).logits[hidden].float().log_softmax(-1) for model in (old, new))
            same.append((p.argmax(-1) == q.argmax(-1)).float())
            divergence.append((p.exp() * (p - q)).sum(-1))
    text = torch.cat(texts)
    return Closeness(
        tokens=windows_WT.shape[1],
        texts=len(windows_WT),
        text_cosine=text.mean().item(),
        text_cosine_least=text.min().item(),
        token_cosine=torch.cat(tokens).mean().item(),
        same_prediction=torch.cat(same).mean().item() if same else None,
        divergence=torch.cat(divergence).mean().item() if divergence else None,
    )


@torch.inference_mode()
def compare_long(old: PreTrainedModel, new: DeepSeekBaseModel, windows_WT: Tensor, parts_WPL: Tensor) -> LongText:
    """What the new model makes of texts that the old one cannot read whole.

    Args:
        old: the backbone of the original.
        parts_WPL: each text's parts, for the original.
    """
    found, dense = [], []
    mode = new.config.attention_mode
    for ids in windows_WT.split(1):
        found.append(new(ids).last_hidden_state.mean(1))
        new.config.attention_mode = "dense"
        try:
            dense.append(new(ids).last_hidden_state.mean(1))
        finally:
            new.config.attention_mode = mode
    vectors = torch.cat(found)
    parts = torch.stack([old(part).last_hidden_state.mean((0, 1)) for part in parts_WPL])
    return LongText(
        tokens=windows_WT.shape[1],
        texts=len(windows_WT),
        dense_cosine=cosine_similarity(vectors, torch.cat(dense), dim=-1).mean().item(),
        parts_cosine=cosine_similarity(vectors, parts, dim=-1).mean().item(),
    )

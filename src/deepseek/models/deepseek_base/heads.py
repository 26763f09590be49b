"""Heads on DeepSeek-Base: masked and causal language models, classifiers of texts and tokens, text embeddings."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from deepseek.errors import ConfigError
from deepseek.models.deepseek_base.config import DeepSeekBaseConfig
from deepseek.models.deepseek_base.modeling import DeepSeekBaseModel, DeepSeekBasePreTrainedModel


class PredictionHead(nn.Module):
    """A dense layer, its activation and a normalisation, before the vocabulary."""

    def __init__(self, config: DeepSeekBaseConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(..., M) to (..., M)."""
        return self.norm(self.activation(self.dense(x)))


class DeepSeekBaseForMaskedLM(DeepSeekBasePreTrainedModel):
    """Predicts masked tokens."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"decoder.weight": "model.embeddings.tokens.weight"}

    def __init__(self, config: DeepSeekBaseConfig) -> None:
        if config.causal:
            raise ConfigError("masked language modelling needs a bidirectional model; set causal=False in the config")
        super().__init__(config)
        self.model = DeepSeekBaseModel(config)
        self.head = PredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.decoder = new_embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits (B, T, vocabulary); with ``labels`` (B, T), -100 where none is masked, the loss too."""
        outputs = self.model(input_ids, attention_mask, token_type_ids, inputs_embeds, **kwargs)
        logits = self.decoder(self.head(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            loss = self.with_gate_loss(
                self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs), outputs
            )
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class DeepSeekBaseForCausalLM(DeepSeekBasePreTrainedModel, GenerationMixin):
    """Predicts the next token. Makes its config causal."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embeddings.tokens.weight"}

    def __init__(self, config: DeepSeekBaseConfig) -> None:
        config.causal = True
        super().__init__(config)
        self.model = DeepSeekBaseModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        gate_loss_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, vocabulary), of the last ``logits_to_keep`` tokens if not 0; with ``labels`` the loss too.

        Gates learn from the tokens that ``gate_loss_mask`` says, by default from those before a label.
        """
        all_kept = isinstance(logits_to_keep, int) and not logits_to_keep
        if gate_loss_mask is None and labels is not None and self.training and all_kept:
            gate_loss_mask = before_labels(labels)
        outputs = self.model(
            input_ids, attention_mask, token_type_ids, inputs_embeds, past_key_values,
            use_cache=use_cache, gate_loss_mask=gate_loss_mask, **kwargs,
        )  # fmt: skip
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.with_gate_loss(
                self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs), outputs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def before_labels(labels_BT: Tensor) -> Tensor:
    """Which tokens are followed by one that has a label."""
    return nn.functional.pad(labels_BT[:, 1:] != -100, (0, 1))


def pooled(hidden_BTM: Tensor, attention_mask: Tensor | None, config: DeepSeekBaseConfig) -> Tensor:
    """One vector a text, (B, M): the mean of its tokens, its first, or the last of a causal model."""
    batch, tokens, _ = hidden_BTM.shape
    mask = attention_mask
    if mask is None:
        mask = torch.ones(batch, tokens, dtype=torch.long, device=hidden_BTM.device)
    if config.causal:
        last = (mask * torch.arange(tokens, device=mask.device)).argmax(-1)
        return hidden_BTM[torch.arange(batch, device=mask.device), last]
    if config.classifier_pooling == "first":
        return hidden_BTM[:, 0]
    weight = mask.to(hidden_BTM.dtype)[..., None]
    return (hidden_BTM * weight).sum(1) / weight.sum(1).clamp(min=1)


class DeepSeekBaseForSequenceClassification(DeepSeekBasePreTrainedModel):
    """Labels, several labels, or a number for each text."""

    def __init__(self, config: DeepSeekBaseConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = DeepSeekBaseModel(config)
        self.head = PredictionHead(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Logits (B, labels)."""
        outputs = self.model(input_ids, attention_mask, token_type_ids, inputs_embeds, **kwargs)
        text = pooled(outputs.last_hidden_state, attention_mask, self.config)
        logits = self.classifier(self.dropout(self.head(text)))
        loss = None
        if labels is not None:
            loss = self.with_gate_loss(
                self.loss_function(pooled_logits=logits, labels=labels, config=self.config), outputs
            )
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class DeepSeekBaseForTokenClassification(DeepSeekBasePreTrainedModel):
    """A label for each token."""

    def __init__(self, config: DeepSeekBaseConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = DeepSeekBaseModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Logits (B, T, labels)."""
        outputs = self.model(input_ids, attention_mask, token_type_ids, inputs_embeds, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            loss = self.with_gate_loss(self.loss_function(logits, labels, self.config), outputs)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class DeepSeekBaseForTextEncoding(DeepSeekBasePreTrainedModel):
    """A vector of length 1 for each text, in ``pooler_output``."""

    def __init__(self, config: DeepSeekBaseConfig) -> None:
        super().__init__(config)
        self.model = DeepSeekBaseModel(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Hidden states (B, T, M) and vectors (B, M)."""
        outputs = self.model(input_ids, attention_mask, token_type_ids, inputs_embeds, **kwargs)
        text = pooled(outputs.last_hidden_state, attention_mask, self.config)
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=nn.functional.normalize(text, dim=-1),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

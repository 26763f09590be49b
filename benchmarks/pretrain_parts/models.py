"""A BERT and a DeepSeek-Base of equal size, with a head for masked tokens or for labels, behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KINDS = ("bert", "deepseek-base")
"""Of equal size."""
SHALLOW = "deepseek-base-shallow"
"""A DeepSeek-Base with half of the layers."""
CLASSIFIERS = {"bert": ("first", "mean"), "deepseek-base": ("mean",), SHALLOW: ("mean",)}
"""What each may classify a text by, its own head first: BERT's takes the first token; the mean of all is tried too."""


def config_of(kind: str, size: dict[str, Any], **fields: Any) -> Any:
    """The configuration of a size: ``hidden_size``, ``num_hidden_layers``, ``num_attention_heads``, ``vocab_size``.

    A BERT has the feed-forward width that its size usually has, four times the hidden size. The gated feed-forward
    network of ours has three matrices where BERT's has two, and gets two thirds of that width, rounded to fit.
    """
    if kind == "bert":
        from transformers import BertConfig

        return BertConfig(
            **size,
            intermediate_size=4 * size["hidden_size"],
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            **{"max_position_embeddings": 512, **fields},
        )
    from deepseek.models.deepseek_base import DeepSeekBaseConfig

    if kind == SHALLOW:
        size = {**size, "num_hidden_layers": max(1, size["num_hidden_layers"] // 2)}
    return DeepSeekBaseConfig(**size, intermediate_size=round(size["hidden_size"] * 8 / 3 / 16) * 16, **fields)


def masked_lm(kind: str, config: Any) -> tuple[Any, Callable[..., Any]]:
    """A model for masked tokens and a function of it: (ids, which are scored) to the scored ones' logits."""
    if kind == "bert":
        from transformers import BertForMaskedLM

        model = BertForMaskedLM(config)

        def logits(ids: Any, scored: Any) -> tuple[Any, Any]:
            return model.cls(model.bert(input_ids=ids).last_hidden_state[scored]), None

    else:
        from deepseek.models.deepseek_base import DeepSeekBaseForMaskedLM

        model = DeepSeekBaseForMaskedLM(config)

        def logits(ids: Any, scored: Any) -> tuple[Any, Any]:
            outputs = model.model(ids)
            return model.decoder(model.head(outputs.last_hidden_state[scored])), outputs

    return model, logits


def classifier(kind: str, config: Any, pooling: str) -> Any:
    """A transformers model for labels; called with ids and mask it gives logits, with labels a loss too."""
    if kind != "bert":
        from deepseek.models.deepseek_base import DeepSeekBaseForSequenceClassification

        return DeepSeekBaseForSequenceClassification(config)
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification(config)
    if pooling == "mean":
        model.bert.pooler = None
        model.forward = _by_mean(model)
    return model


def _by_mean(model: Any) -> Callable[..., Any]:
    """BERT's classifier on the mean of a text's tokens, behind a dense layer like that of its own head."""
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    model.dense = torch.nn.Linear(model.config.hidden_size, model.config.hidden_size)
    torch.nn.init.normal_(model.dense.weight, std=model.config.initializer_range)
    torch.nn.init.zeros_(model.dense.bias)

    def forward(input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
        hidden = model.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask[..., None].to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1)
        logits = model.classifier(model.dropout(torch.tanh(model.dense(mean))))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    return forward

"""The checkpoint that is converted: which ones can be, and where their weights are.

BERT's layer is the one that DeepSeek-Base can take on: absolute positions added to the embeddings, normalisation behind
each part, two matrices in the feed-forward network. MiniLM and most sentence encoders are BERTs by architecture;
RoBERTa's family differs in where positions begin. DeBERTa, ELECTRA, DistilBERT, ALBERT, MPNet and ModernBERT are other
layers, and refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.models.checkpoint import Checkpoint
from deepseek.models.loading import from_pretrained

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BERT = ("bert",)
ROBERTA = ("roberta", "xlm-roberta", "camembert")
HEADS = ("none", "masked-lm", "token-classification", "sequence-classification")
"""Heads that a converted model can have."""
SHORTEST = 64
"""Tokens that the longest text of a checkpoint must have: positions are fitted on that and its eighth."""
_OWN_HEADS = {
    "ForMaskedLM": "masked-lm",
    "ForPreTraining": "masked-lm",
    "ForTokenClassification": "token-classification",
    "ForSequenceClassification": "sequence-classification",
}


@dataclass(frozen=True)
class Source:
    """A checkpoint that can be converted.

    Attributes:
        checkpoint: where it is.
        family: its ``model_type``.
        head: the head that is wanted of it, one of :data:`HEADS`.
        model: with that head; for classifiers of texts the model without it.
    """

    checkpoint: Checkpoint
    family: str
    head: str
    model: PreTrainedModel

    @property
    def backbone(self) -> PreTrainedModel:
        """The model without its head."""
        found: PreTrainedModel = getattr(self.model, self.model.base_model_prefix, self.model)
        return found

    @property
    def positions(self) -> torch.Tensor:
        """The position embeddings of the first token, the second, and so on: (longest text, M)."""
        table: torch.Tensor = self.backbone.get_submodule("embeddings.position_embeddings").weight.detach()
        # RoBERTa counts from behind the padding token's number
        return table[self.model.config.pad_token_id + 1 :] if self.family in ROBERTA else table

    def left_out(self) -> list[str]:
        """Modules of the checkpoint that DeepSeek-Base has no place for."""
        kept = ["embeddings.position_embeddings"]
        if getattr(self.backbone, "pooler", None) is not None and "pooler" not in self.model.fresh_modules:
            kept.append("pooler")
        if self.head == "sequence-classification":
            kept.append("classifier")
        return kept


def open_source(checkpoint: Checkpoint, head: str | None) -> Source:
    """Check a checkpoint and load it.

    Args:
        head: one of :data:`HEADS`; ``None`` for the one that it was saved with.

    Raises:
        UnknownNameError: there is no such head.
        ConfigError: it is of another architecture, or lacks the head.
    """
    if head is not None and head not in HEADS:
        raise UnknownNameError("head", head, HEADS)
    config = json.loads((checkpoint.path / "config.json").read_text("utf-8"))
    check(config, checkpoint.name)
    wanted = head or own_head(config)
    loaded = "none" if wanted == "sequence-classification" else wanted
    model = from_pretrained(checkpoint, head=loaded).eval()
    fresh = [name for name in model.fresh_modules if not name.endswith("pooler")]
    if fresh:
        raise ConfigError(
            f"{checkpoint.name!r} has no head {wanted!r} to carry over: it lacks {', '.join(fresh)}. Convert it with "
            f"head='none'; from_pretrained then makes any head anew"
        )
    source = Source(checkpoint, config["model_type"], wanted, model)
    if wanted == "masked-lm" and source.family in ROBERTA and model.config.hidden_act != "gelu":
        raise ConfigError(
            f"{checkpoint.name!r}: expected hidden_act 'gelu', which its head for masked tokens has in any case, "
            f"received {model.config.hidden_act!r} for the layers; convert it with head='none'"
        )
    return source


def own_head(config: Mapping[str, Any]) -> str:
    """The head that a config says its checkpoint was saved with."""
    names = config.get("architectures") or [""]
    return next((head for end, head in _OWN_HEADS.items() if str(names[0]).endswith(end)), "none")


def check(config: Mapping[str, Any], name: str) -> None:
    """Refuse what is no encoder of BERT's kind.

    Args:
        config: ``config.json`` as it is.
        name: the checkpoint's, for messages.

    Raises:
        ConfigError: with the field, what was expected and what was received.
    """
    family = config.get("model_type")
    if family == "deepseek-base":
        raise ConfigError(f"{name!r} is a DeepSeek-Base model already; load it with from_pretrained")
    if family not in (*BERT, *ROBERTA):
        raise ConfigError(
            f"{name!r}: expected a checkpoint of model_type {', '.join((*BERT, *ROBERTA))}, received {family!r}"
        )
    expected = {"is_decoder": (False, None), "add_cross_attention": (False, None)}
    expected["position_embedding_type"] = ("absolute", None)  # type: ignore[assignment]
    for field, allowed in expected.items():
        if config.get(field) not in allowed:
            raise ConfigError(
                f"{name!r}: expected {field}={allowed[0]!r} (an encoder with absolute positions), "
                f"received {config[field]!r}"
            )
    longest = config.get("max_position_embeddings", 512)
    if longest < SHORTEST:
        raise ConfigError(f"{name!r}: expected texts of {SHORTEST} tokens or more, received {longest} positions")

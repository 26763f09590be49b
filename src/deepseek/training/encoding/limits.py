"""What a model can take: how long a sequence, and which token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

POSITIONS = frozenset({"position_embeddings", "position_embedding", "wpe", "embed_positions", "pos_embedding"})
"""Names that transformers' models give to a table of absolute positions."""


@dataclass(frozen=True)
class ModelLimits:
    """The longest sequence that has positions (``None``: relative or rotary positions, no such limit), and the
    number of token ids that have an embedding (``None``: the model embeds no tokens)."""

    positions: int | None = None
    tokens: int | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> ModelLimits:
        """The limits that the model's embedding tables set."""
        from torch import nn

        found: list[int] = []
        for path, module in model.named_modules():
            parts = path.split(".")
            if isinstance(module, nn.Embedding) and parts[-1] in POSITIONS and not any("vision" in p for p in parts):
                # RoBERTa numbers positions from padding_idx + 1; OPT and BART keep their first entries free
                free = getattr(module, "offset", None)
                free = free if free is not None else (module.padding_idx + 1 if module.padding_idx is not None else 0)
                found.append(module.num_embeddings - int(free))
        try:
            embeddings = model.get_input_embeddings()
        except (NotImplementedError, AttributeError):
            embeddings = None
        tokens = embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else None
        return cls(min(found, default=None), tokens)

    def check(self, features: Sequence[Mapping[str, Any]], names: Sequence[str], task: Any) -> None:
        """Refuse features that the model cannot take.

        Args:
            features: some of the features.
            names: what each was made from, for the message.
            task: has the ``max_length`` that the message names.

        Raises:
            ConfigError: a sequence is longer than the model's positions, or a token id has no embedding.
        """
        columns = [key for key in (features[0] if features else ()) if key.endswith("input_ids")]
        for feature, name in zip(features, names, strict=True):
            for column in columns:
                ids = feature[column]
                if not len(ids) or not isinstance(ids[0], int):
                    continue
                if self.positions is not None and len(ids) > self.positions:
                    limit = getattr(task, "max_length", None)
                    raise ConfigError(
                        f"{name} has {len(ids)} tokens, but the model has positions for {self.positions}; set "
                        f"task.max_length to {self.positions} or less"
                        + (f" (it is {limit})" if limit is not None else "")
                    )
                if self.tokens is not None and (max(ids) >= self.tokens or min(ids) < 0):
                    raise ConfigError(
                        f"{name} has the token id {max(ids)}, but the model knows {self.tokens} tokens; the tokenizer "
                        "is not this model's"
                    )

"""Which tokenizer a model made from scratch gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenizerConfig(BaseModel):
    """A tokenizer to train, or one to take over from a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str | None = Field(
        None, description="Take over this checkpoint's tokenizer (a catalogue name, a hub id, a folder); trains none."
    )
    kind: Literal["wordpiece", "bpe", "unigram"] = Field(
        "wordpiece", description="bpe works on bytes: for decoders, and for scripts with many characters."
    )
    vocab_size: int = Field(30_000, ge=16, le=1 << 24, description="Tokens at most; small corpora give fewer.")
    lowercase: bool = Field(False, description="Drop case (and with wordpiece accents).")
    min_frequency: int = Field(2, ge=1, description="Pairs that are rarer are not merged.")

    @model_validator(mode="after")
    def _trains_or_takes_over(self) -> Self:
        fields = type(self).model_fields
        set_too = [n for n in fields if n != "base" and getattr(self, n) != fields[n].default]
        if self.base is not None and set_too:
            raise ValueError(f"base takes over a tokenizer as it is, so leave out {', '.join(set_too)}")
        return self

    def build(
        self, texts: Iterable[str], *, purpose: Literal["encoder", "decoder"], max_length: int
    ) -> PreTrainedTokenizerBase:
        """Train the tokenizer on texts, or load it.

        Args:
            texts: read once, and not at all where ``base`` is set.
            purpose, max_length: as :func:`deepseek.models.train_tokenizer` takes them.

        Raises:
            DataError, ConfigError: as :func:`deepseek.models.train_tokenizer`.
            UnknownNameError, ConfigError, FetchError: as :func:`deepseek.models.tokenizer_for`.
        """
        if self.base is not None:
            from deepseek.models.loading import tokenizer_for

            return tokenizer_for(self.base)
        from deepseek.models.tokenizers.training import train_tokenizer

        return train_tokenizer(
            texts,
            kind=self.kind,
            vocab_size=self.vocab_size,
            purpose=purpose,
            lowercase=self.lowercase,
            min_frequency=self.min_frequency,
            max_length=max_length,
        )

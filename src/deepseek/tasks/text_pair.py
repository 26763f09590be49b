"""One text or two: what the tasks over sentences and pairs of sentences share.

A pair is tokenised as the model's tokenizer joins two texts (BERT: ``[CLS] a [SEP] b [SEP]`` with token types). One
that is longer than ``max_length`` loses tokens at the end of its longer text first (``longest_first``); one text is cut
at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field as ConfigField
from pydantic import model_validator

from deepseek.tasks.base import CHARS_PER_TOKEN, Row, TextTask
from deepseek.tasks.signature import Field

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextPairTask(TextTask):
    """A task over the column ``text``, or over the pair of ``text`` and ``text_pair``."""

    text: str = ConfigField("text", description="Column with the text.")
    text_pair: str | None = ConfigField(
        None, description="Column with a second text; the two are read as a pair (premise and hypothesis, say)."
    )
    max_length: int = ConfigField(256, ge=4, le=1_000_000, description="Tokens beyond this are cut.")

    @model_validator(mode="after")
    def _columns_differ(self) -> TextPairTask:
        if self.text_pair == self.text:
            raise ValueError(f"expected text_pair to be another column than text, received {self.text!r} for both")
        return self

    def text_inputs(self) -> tuple[Field, ...]:
        """The signature's inputs."""
        if self.text_pair is None:
            return (Field(name=self.text, dtype="string", description="the text"),)
        return (
            Field(name=self.text, dtype="string", description="the first text of the pair"),
            Field(name=self.text_pair, dtype="string", description="the second text of the pair"),
        )

    def prepare(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        if self.text_pair is None:
            return super().prepare(rows, tokenizer)
        limit = self.max_length * CHARS_PER_TOKEN
        first = [t[:limit] for t in self.texts(rows)]
        second = [t[:limit] for t in self.texts(rows, self.text_pair)]
        encoded = tokenizer(
            first, second, truncation="longest_first", max_length=self.max_length, add_special_tokens=True
        )
        return [{key: encoded[key][i] for key in encoded} for i in range(len(first))]

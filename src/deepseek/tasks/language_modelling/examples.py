"""Training rows of a causal language model as token ids and labels.

The first token of an example is never a label: nothing precedes it, and in a packed sequence the end of the example
before must not predict it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, DataError
from deepseek.tasks.base import LABELS, Row
from deepseek.tasks.language_modelling.chat import check_messages, encode_chat
from deepseek.tasks.language_modelling.packing import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Example = dict[str, list[int]]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns that a training row may have; ``None`` values count as absent."""

    prompt: str
    completion: str
    messages: str
    document: str

    def examples(self, number: int, row: Row, tokenizer: PreTrainedTokenizerBase, length: int) -> list[Example]:
        """The examples of one row, each with ``input_ids`` and ``labels`` of at most ``length`` tokens.

        A chat or a completion makes one example, which is cut at the end; a text makes as many as it fills.

        Raises:
            DataError: the row has none of the columns, a value of another type, or no token to learn.
            ConfigError: the tokenizer lacks an end-of-text token, or a chat template that the row needs.
        """
        present = {name for name, value in row.items() if value is not None}
        if self.messages in present:
            ids, learned = encode_chat(number, check_messages(number, row[self.messages]), tokenizer)
        elif {self.prompt, self.completion} <= present:
            ids, learned = self._completion(number, row, tokenizer)
        elif self.document in present and (self.prompt not in present or self.prompt == self.document):
            ids = [*tokenizer(_text(number, row, self.document))["input_ids"]]
            ids += [] if ids and ids[-1] == end_of_text(tokenizer) else [end_of_text(tokenizer)]
            if len(ids) < 2:
                raise DataError(f"row {number}: the tokenizer finds nothing in {row[self.document]!r:.80}")
            return _windows(ids, length)
        else:
            raise DataError(
                f"row {number}: expected the columns {self.prompt!r} and {self.completion!r}, or {self.messages!r}, "
                f"or {self.document!r}, received {', '.join(map(repr, sorted(map(str, present)))) or 'none'}"
            )
        labels = [token if use else IGNORED for token, use in zip(ids, learned, strict=True)][:length]
        labels[0] = IGNORED
        if all(label == IGNORED for label in labels):
            first = learned.index(True) if True in learned else len(ids)
            raise DataError(
                f"row {number}: the answer begins after {first} tokens, but a training sequence has {length}; "
                "raise training_length and max_length, or shorten the prompt"
            )
        return [{"input_ids": ids[:length], LABELS: labels}]

    def _completion(self, number: int, row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[bool]]:
        prompt, completion = row[self.prompt], row[self.completion]
        if isinstance(prompt, list):
            said = completion if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
            chat = check_messages(number, [*prompt, *said])
            return encode_chat(number, chat, tokenizer, learn_from=len(prompt))
        before, answer = _text(number, row, self.prompt), _text(number, row, self.completion)
        ids = [*tokenizer(before)["input_ids"]]
        whole = [*tokenizer(before + answer)["input_ids"]]
        # The model will be given the prompt's own tokens, so they must come out the same here. Where the tokenizer
        # would merge across the border, the answer is tokenised alone.
        same = whole[: len(ids)] == ids
        rest = whole[len(ids) :] if same else [*tokenizer(answer, add_special_tokens=False)["input_ids"]]
        end = end_of_text(tokenizer)
        rest += [] if rest and rest[-1] == end else [end]
        return ids + rest, [False] * len(ids) + [True] * len(rest)


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token that ends a text; raises :class:`ConfigError` when the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the tokenizer has no end-of-text token, so a model could not learn to stop; set tokenizer.eos_token"
        )
    return int(tokenizer.eos_token_id)


def _text(number: int, row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f"row {number}: expected a string in {column!r}, received {value!r:.80}")
    if not value.strip():
        raise DataError(f"row {number}: {column!r} is empty; expected some text")
    return value


def _windows(ids: Sequence[int], length: int) -> list[Example]:
    """Cut a text into examples; the last token of one is the first of the next, so that every token is predicted."""
    starts = range(0, max(len(ids) - 1, 1), length - 1)
    pieces = [list(ids[start : start + length]) for start in starts]
    return [{"input_ids": piece, LABELS: [IGNORED, *piece[1:]]} for piece in pieces]

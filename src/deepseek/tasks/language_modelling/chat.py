"""Which tokens of a chat are the assistant's.

A template that marks them with ``{% generation %}`` is asked; for any other the conversation is rendered again with a
placeholder in an assistant turn's place, and what differs is that turn. Unlike rendering growing prefixes, that also
holds for templates that change earlier turns once later ones follow (which drop the reasoning of past answers, say).
The token that ends a turn belongs to it: a model learns to stop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PLACEHOLDER = "\ue000assistant turn\ue001"  # private-use characters: no text or template has them


def check_messages(number: int, messages: Any) -> list[dict[str, Any]]:
    """A chat of row ``number``, checked.

    Raises:
        DataError: it is no list of ``{"role": ..., "content": ...}`` with string values.
    """
    if not isinstance(messages, list) or not messages:
        raise DataError(f"row {number}: expected a list of chat messages, received {messages!r:.80}")
    for message in messages:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise DataError(
                f"row {number}: expected messages of the form {{'role': ..., 'content': ...}}, received {message!r:.80}"
            )
        for key in ("role", "content"):
            if not isinstance(message[key], str):
                raise DataError(
                    f"row {number}: expected a string as a message's {key!r}, received {message[key]!r:.80}"
                )
    return [dict(message) for message in messages]


def prompt_of_chat(number: int, messages: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a conversation that the assistant is to continue.

    Raises:
        DataError: the template refuses the conversation.
    """
    from jinja2.exceptions import TemplateError

    try:
        encoded = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
    except TemplateError as error:
        raise DataError(f"row {number}: the chat template refuses the conversation: {error}") from error
    return list(encoded["input_ids"])


def encode_chat(
    number: int, messages: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, *, learn_from: int = 0
) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, and for each whether the assistant said it.

    Args:
        learn_from: index of the first message whose assistant turns count.

    Raises:
        DataError: there is no assistant turn, or the template refuses or changes the conversation.
        ConfigError: the tokenizer has no chat template, or cannot tell which characters a token covers.
    """
    from jinja2.exceptions import TemplateError

    if not tokenizer.chat_template:
        raise ConfigError(
            "the rows have chat messages, but this model's tokenizer has no chat template; "
            "train on prompt and completion columns, or set tokenizer.chat_template"
        )
    turns = [i for i, m in enumerate(messages) if m["role"] == "assistant" and i >= learn_from]
    if not turns:
        raise DataError(f"row {number}: no message has the role 'assistant', so there is nothing to learn")
    try:
        if learn_from == 0 and _GENERATION.search(str(tokenizer.chat_template)):
            encoded = tokenizer.apply_chat_template(
                list(messages), return_dict=True, return_assistant_tokens_mask=True, add_generation_prompt=False
            )
            return list(encoded["input_ids"]), [bool(m) for m in encoded["assistant_masks"]]
        text = _render(messages, tokenizer)
        spans = [_span(number, text, messages, i, tokenizer) for i in turns]
    except TemplateError as error:
        raise DataError(f"row {number}: the chat template refuses the conversation: {error}") from error
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{type(tokenizer).__name__} cannot say which characters a token covers, which training on chats needs; "
            "use a tokenizer with a tokenizer.json"
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    return ids, _learned(ids, offsets, spans, set(tokenizer.added_tokens_decoder))


def _render(messages: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=False))


def _span(
    number: int, text: str, messages: Sequence[Mapping[str, Any]], turn: int, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, int]:
    """Where an assistant turn's content lies in the rendered conversation, in characters."""
    changed = [{**m, "content": _PLACEHOLDER} if i == turn else m for i, m in enumerate(messages)]
    other = _render(changed, tokenizer)
    if other.count(_PLACEHOLDER) != 1:
        raise DataError(
            f"row {number}: the chat template does not show message {turn} once, so its tokens cannot be found; "
            "give prompt and completion columns instead"
        )
    start = _shared(text, other)
    return start, len(text) - _shared(text[start:][::-1], other[start:][::-1])


def _shared(one: str, other: str) -> int:
    """Length of the common beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _learned(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]], special: set[int]
) -> list[bool]:
    learned = [False] * len(ids)
    for start, end in spans:
        after = len(ids)
        for i, (low, high) in enumerate(offsets):
            # byte-level tokenizers may trim spaces from offsets, which leaves a lone space empty, at its own end
            inside = start < low <= end if low == high else high > start and low < end
            learned[i] = learned[i] or inside
            if low >= end and not inside:
                after = i
                break
        if after < len(ids) and ids[after] in special:
            learned[after] = True  # the end of the turn
    return learned

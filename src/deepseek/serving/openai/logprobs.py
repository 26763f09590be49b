"""Log-probabilities in the two forms that OpenAI's API has."""

from __future__ import annotations

from collections.abc import Sequence

from deepseek.inference.generation.core import TokenLogprobs
from deepseek.serving.generation.token_texts import TokenTexts
from deepseek.serving.openai.responses import ChatLogprobs, CompletionLogprobs, RankedToken, TokenLogprob

LEAST = -9999.0
"""What stands for minus infinity, which JSON does not have (OpenAI's value)."""


def chat_logprobs(texts: TokenTexts, tokens: Sequence[int], logprobs: Sequence[TokenLogprobs]) -> ChatLogprobs:
    """The form of chat completions."""
    content: list[TokenLogprob] = []
    for token, each in zip(tokens, logprobs, strict=True):
        own = texts[token]
        top = [RankedToken(texts[t].text, max(p, LEAST), list(texts[t].bytes)) for t, p in each.top]
        content.append(TokenLogprob(own.text, max(each.logprob, LEAST), list(own.bytes), top))
    return ChatLogprobs(content)


def completion_logprobs(
    texts: TokenTexts, tokens: Sequence[int], logprobs: Sequence[TokenLogprobs], offset: int
) -> CompletionLogprobs:
    """The form of plain completions; ``offset``: characters before the first token."""
    names = [texts[token].text for token in tokens]
    offsets: list[int] = []
    for name in names:
        offsets.append(offset)
        offset += len(name)
    tops = [
        {texts[t].text: max(p, LEAST) for t, p in (*each.top, (token, each.logprob))}
        for token, each in zip(tokens, logprobs, strict=True)
    ]
    return CompletionLogprobs(names, [max(each.logprob, LEAST) for each in logprobs], tops, offsets)

"""From tokens to text as they come, and where a stop text begins.

A character may take several tokens, and what a token stands for may depend on those before it (a space, say), so text
is the difference of two decodings of a few last tokens (text-generation-inference's and vLLM's method); an unfinished
character waits for its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXT = 8
"""Tokens of the prompt that the first new one is decoded after."""
UNFINISHED = "\ufffd"


class TextOfTokens:
    """The text of one answer, piece by piece.

    Args:
        tokenizer: decodes.
        prompt: what the answer follows.
        stop: texts that end the answer.

    Attributes:
        stopped: whether a stop text has come; nothing follows it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._tokenizer: Any = tokenizer
        self._ids = list(prompt[-CONTEXT:])
        self._from, self._read = 0, len(self._ids)
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def add(self, token_ids: Sequence[int], *, last: bool = False) -> str:
        """Take new tokens and return the text that is sure now: what a stop text may begin with waits.

        Args:
            last: nothing follows, so nothing waits.
        """
        if self.stopped:
            return ""
        # one at a time: an unfinished character at the end must not keep back what is finished before it
        fresh = "".join(self._next(token) for token in token_ids)
        if last:
            fresh += self._rest()
        self._held += fresh
        for at in sorted(self._held.find(stop) for stop in self._stop):
            if at >= 0:
                self.stopped = True
                text, self._held = self._held[:at], ""
                return text
        keep = 0 if last else self._waiting()
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text

    def _next(self, token: int) -> str:
        self._ids.append(token)
        before, now = self._decode(self._ids[self._from : self._read]), self._decode(self._ids[self._from :])
        if len(now) <= len(before) or now.endswith(UNFINISHED):
            return ""
        self._from, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def _rest(self) -> str:
        before, now = self._decode(self._ids[self._from : self._read]), self._decode(self._ids[self._from :])
        return now[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _waiting(self) -> int:
        """Characters at the end with which a stop text begins."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for count in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-count:]) for stop in self._stop):
                return count
        return 0

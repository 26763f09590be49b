"""Batches padded to one of few lengths.

A batch is padded to its longest row, so lengths are as many as texts have. Each new one costs: oneDNN, with which a CPU
multiplies bfloat16, generates code for every shape it has not seen lately (about 45 ms a MiniLM step with AMX, of 140),
and a GPU's matrix units want multiples of 8. Rounded up, few lengths are left: batches of sentences went from 34
lengths to 8, for an eighth more tokens. A length grows by less than a quarter (65 to 80), or by less than 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MULTIPLE = 8
PARTS = 4
"""A power of two is reached in so many steps from the one before it."""


def rounded_length(tokens: int, longest: int | None = None) -> int:
    """``tokens`` rounded up: to a multiple of 8 up to 64, of 16 up to 128, of 32 up to 256, and so on.

    Args:
        longest: what the model has positions for; ``None``: no limit.
    """
    step = max(MULTIPLE, (1 << max(0, tokens - 1).bit_length()) // 2 // PARTS)
    rounded = -(-tokens // step) * step
    return rounded if longest is None else max(tokens, min(rounded, longest))


class RoundedPadding:
    """A tokenizer that pads to a :func:`rounded_length`; in all else the tokenizer that it is given.

    Args:
        tokenizer: a transformers tokenizer.
        longest: positions of the model, beyond which nothing is padded.
    """

    def __init__(self, tokenizer: Any, longest: int | None) -> None:
        self._tokenizer = tokenizer
        self._longest = longest

    def padded_length(self, tokens: int) -> int:
        """To how many tokens a batch is padded whose longest row has ``tokens``."""
        return rounded_length(tokens, self._longest)

    def pad(self, features: Sequence[Mapping[str, Any]], *, padding: Any = True, **options: Any) -> Any:
        """As the tokenizer's, with ``padding=True`` (to the longest row) rounded up."""
        if padding is True:
            longest = max(len(feature["input_ids"]) for feature in features)
            padding, options = "max_length", {**options, "max_length": self.padded_length(longest)}
        return self._tokenizer.pad(features, padding=padding, **options)

    def __getattr__(self, name: str) -> Any:
        if name == "_tokenizer":  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._tokenizer(*args, **kwargs)

    def __len__(self) -> int:
        return len(self._tokenizer)

"""Embeddings of new words from the old ones of their translations.

The idea is WECHSEL's (Minixhofer et al. 2022, https://arxiv.org/abs/2112.06598) with a dictionary instead of aligned
word vectors: a word begins at the weighted mean of the embeddings of its English senses, so that a trunk that was
trained on English already knows much of what it means. What the dictionary does not have begins at the mean of its
characters, or at the mean of all with some noise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SENSES = 4
WORDS = 6
"""Senses of a word, and words of a sense, that count."""
LENGTH = 0.8
"""Distance from the mean embedding, as a share of the old embeddings' mean distance; means lie too near to it."""
_FUNCTION_WORDS = frozenset(
    {
        "to", "of", "the", "a", "an", "and", "or", "in", "on", "at", "for", "with", "by", "be", "is", "as", "sb", "sth",
        "etc", "one's", "also", "from", "esp", "usu", "it", "that", "which", "used", "lit", "fig", "abbr", "cl",
        "variant", "bound", "form", "coll",
    }
)  # fmt: skip
_WORD = re.compile(r"[a-z']+")


class Translated:
    """Makes embeddings for words; ``old`` is (vocabulary, width), ``tokenizer`` the one that belongs to it."""

    def __init__(self, old: torch.Tensor, tokenizer: Any, meanings: Mapping[str, Sequence[str]]) -> None:
        self._old = old
        self._tokenizer = tokenizer
        self._vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._meanings = meanings
        used = old[[i for word, i in self._vocabulary.items() if word.isascii() and not word.startswith("[")]]
        self._mean = used.mean(0)
        self._deviation = used.std(0)
        self._distance = float((used - self._mean).norm(dim=1).mean())

    def matrix(self, words: Sequence[str], seed: int = 0) -> torch.Tensor:
        """One row a word, (words, width). Tokens that the old vocabulary has (marks, letters) keep their rows."""
        import torch

        noise = torch.Generator().manual_seed(seed)
        rows = []
        for word in words:
            if word in self._vocabulary and not "\u4e00" <= word[0] <= "\u9fff":
                rows.append(self._old[self._vocabulary[word]])
                continue
            vector = self._meaning(word)
            if vector is None:
                parts = [part for c in word if (part := self._meaning(c)) is not None]
                vector = torch.stack(parts).mean(0) if parts else None
            if vector is None:
                vector = self._mean + self._deviation * torch.randn(len(self._mean), generator=noise)
            away = vector - self._mean
            rows.append(self._mean + away * (LENGTH * self._distance / away.norm().clamp(min=1e-6)))
        return torch.stack(rows)

    def _meaning(self, word: str) -> torch.Tensor | None:
        senses = [v for s in self._meanings.get(word, ())[:SENSES] if (v := self._sense(s)) is not None]
        if not senses:
            return None
        weights = [1 / (i + 1) for i in range(len(senses))]  # dictionaries put the commonest sense first
        total = sum(w * v for w, v in zip(weights, senses, strict=True))
        return total / sum(weights)

    def _sense(self, sense: str) -> torch.Tensor | None:
        words = _WORD.findall(sense.lower())
        words = [w for w in words if w not in _FUNCTION_WORDS] or words
        ids = [i for w in words[:WORDS] for i in self._tokenizer(w, add_special_tokens=False)["input_ids"]]
        return self._old[ids].mean(0) if ids else None

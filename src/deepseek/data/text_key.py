"""The grouping key of a text: what two texts share when a person would call them the same sentence."""

from __future__ import annotations

import unicodedata


class _Letters(dict[int, str]):
    """Maps punctuation, separators and control characters to a space, and remembers each character it saw."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        self[code] = kept = " " if category[0] in "PZ" or category == "Cc" else character
        return kept


_LETTERS = _Letters()


def text_key(text: str) -> str:
    """Casefolded ``text`` in Unicode NFKC without punctuation, one space between words.

    Symbols (emoji, currency, arithmetic) and combining marks stay, so Indic and Arabic words keep their identity. A
    text of punctuation only (``":)"``, ``"..."``) is its own key, or all of those would count as one text.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_LETTERS).split()) or " ".join(folded.split())

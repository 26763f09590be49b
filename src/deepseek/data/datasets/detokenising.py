"""Running text from words and punctuation that were set apart, as corpora for linguists and for benchmarks have them.

A language model should learn the spaces that people write. Quotation marks that do not say whether they open or close
take turns; where a text is not well formed, some spaces come out otherwise than in print.
"""

from __future__ import annotations

from collections.abc import Iterable

_CLOSING = frozenset({",", ".", ";", ":", "?", "!", ")", "]", "}", "''", "%", "...", "’", "”"})
_OPENING = frozenset({"(", "[", "{", "``", "$", "£", "€", "‘", "“"})
_BETWEEN = {"@-@": "-", "@,@": ",", "@.@": ".", "/": "/"}
_SUFFIXES = frozenset({"'s", "'t", "'re", "'ve", "'ll", "'d", "'m", "n't"})
_WRITTEN = {"``": '"', "''": '"'}


def detokenised(tokens: Iterable[str]) -> str:
    """One paragraph as it is written.

    >>> detokenised("`` It 's late '' , he said ( and left ) .".split())
    '"It\\'s late", he said (and left).'
    """
    text, glue = "", True
    open_marks: set[str] = set()
    for token in tokens:
        left = token in _CLOSING or token in _BETWEEN or token in _SUFFIXES
        right = token in _OPENING or token in _BETWEEN
        if token in ('"', "'"):
            left = token in open_marks
            right = not left
            open_marks ^= {token}
        text += ("" if glue or left else " ") + (_BETWEEN.get(token) or _WRITTEN.get(token, token))
        glue = right
    return text

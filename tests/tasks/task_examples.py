"""One example of each task, for the contract tests: add a line to ``EXAMPLES`` for a new one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WORDS = ["a moving and funny film", "a dull and tired mess", "warm", "loud, stupid and far too long for what it says"]


@dataclass(frozen=True)
class Example:
    """A task to try.

    Attributes:
        options: its smallest configuration, as a recipe gives it.
        rows: rows to train on and to score; empty for a task that cannot be trained.
        broken: columns put into the second row, and what the error must say besides that row's number.
        weighs: whether it has classes, to be weighed and smoothed.
        texts: two texts that it answers, the first of them shorter.
    """

    options: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    broken: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    weighs: bool = False
    texts: tuple[str, str] = ("short", "a somewhat longer text")


def _rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


_NO_TEXT: list[tuple[dict[str, Any], str]] = [({"text": None}, "text"), ({"text": " "}, "text"), ({"text": 7}, "text")]
_TAGS = [["B-PER", "O", "O"], ["O"], ["O", "B-LOC", "I-LOC"], ["B-LOC", "O"]]
_TOKENS = [["Alice", "sleeps", "."], ["unbelievable"], ["in", "New", "York"], ["Rome", "!"]]

EXAMPLES: dict[str, Example] = {
    "multi-label-classification": Example(
        options={"labels": ("dull", "funny", "loud")},
        rows=_rows(text=WORDS, labels=[["funny"], ["dull"], [], ["loud", "dull"]]),
        broken=[
            *_NO_TEXT,
            ({"labels": None}, "received None"),
            ({"labels": "funny"}, "received 'funny'.*separator"),
            ({"labels": ["funny", 3]}, "3"),
            ({"labels": ["funy"]}, "expected one of 'dull', 'funny', 'loud'.*received 'funy'.*did you mean 'funny'"),
        ],
        weighs=True,
    ),
    "text-classification": Example(
        options={"labels": ("negative", "positive"), "positive": "positive"},
        rows=_rows(text=WORDS, label=["positive", "negative", "positive", "negative"]),
        broken=[
            *_NO_TEXT,
            ({"label": None}, "received None"),
            ({"label": 1}, "received 1"),
            ({"label": "postive"}, "expected one of 'negative', 'positive'.*received 'postive'"),
        ],
        weighs=True,
    ),
    "text-generation": Example(),
    "image-classification": Example(options={"labels": ("a", "b")}),
    "masked-language-modelling": Example(texts=("short [MASK]", "a somewhat longer [MASK] text")),
    "sentence-embedding": Example(),
    "text-regression": Example(
        options={"minimum": 0, "maximum": 5},
        rows=_rows(text=WORDS, label=[4.5, 1, 3.25, 0.5]),
        broken=[
            *_NO_TEXT,
            ({"label": None}, "received None"),
            ({"label": "4"}, "received '4'"),
            ({"label": float("nan")}, "finite number.*received nan"),
            ({"label": True}, "received True"),
            ({"label": 5.5}, "0.0 to 5.0.*received 5.5"),
        ],
    ),
    "token-classification": Example(
        options={"labels": ("B-LOC", "B-PER", "I-LOC", "O")},
        rows=_rows(tokens=_TOKENS, tags=_TAGS),
        broken=[
            ({"tokens": "unbelievable"}, "list of strings in 'tokens', received 'unbelievable'"),
            ({"tokens": []}, "received \\[\\]"),
            ({"tokens": [" "]}, "tokens\\[0\\], received ' '"),
            ({"tags": None}, "received None"),
            ({"tags": ["O", "O"]}, "received 2 in 'tags' and 1 in 'tokens'"),
            ({"tags": ["B-ORG"]}, "expected one of 'B-LOC'.*received 'B-ORG'"),
        ],
        weighs=True,
    ),
}

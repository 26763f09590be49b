"""Entities: spans of tokens with a type, read from tags, and their precision, recall and F1.

A span is right when its first token, its last token and its type are (Tjong Kim Sang & Buchholz 2000, "Introduction to
the CoNLL-2000 Shared Task: Chunking"). Tags are read as that task's ``conlleval`` reads them: ``B-X`` begins a span,
``I-X`` continues one of type X and begins one where there is none to continue, so that a model's sequences which are
not valid IOB2 are scored too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from deepseek.errors import DataError
from deepseek.tasks.metrics.intervals import Floats, bootstrap, ratio
from deepseek.tasks.metrics.multi_label import MOST_REPORTED

OUTSIDE = "O"


class Span(NamedTuple):
    """Tokens ``start`` to ``end`` (exclusive) and their type."""

    type: str
    start: int
    end: int


def iob2_spans(tags: Sequence[str]) -> list[Span]:
    """The spans of tags such as ``B-PER I-PER O``; what follows the first hyphen is the type."""
    found: list[Span] = []
    kind, start = "", -1
    for position, tag in enumerate(tags):
        prefix, _, this = tag.partition("-")
        continues = prefix == "I" and start >= 0 and this == kind
        if start >= 0 and not continues:
            found.append(Span(kind, start, position))
            start = -1
        if tag != OUTSIDE and not continues:
            kind, start = this, position
    if start >= 0:
        found.append(Span(kind, start, len(tags)))
    return found


def run_spans(tags: Sequence[str]) -> list[Span]:
    """The spans of tags without prefixes: each run of one tag other than ``O``."""
    found: list[Span] = []
    for position, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        if found and found[-1].end == position and found[-1].type == tag:
            found[-1] = found[-1]._replace(end=position + 1)
        else:
            found.append(Span(tag, position, position + 1))
    return found


def span_metrics(
    predicted: Sequence[Sequence[Span]],
    references: Sequence[Sequence[Span]],
    *,
    right_tokens: Sequence[int],
    tokens: Sequence[int],
) -> dict[str, float]:
    """Scores of spans, row by row.

    * ``precision``, ``recall`` and ``f1`` over all spans of all rows, as ``conlleval`` reports them.
    * ``f1_macro``: mean F1 of the types that the references have; ``f1/TYPE`` of each, where there are at most 100.
    * ``accuracy``: the share of tokens with the right tag. Tokens of a row depend on one another, so that its interval
      too comes from drawing rows, not tokens.

    Args:
        right_tokens: for each row, how many of its tags are right.
        tokens: for each row, how many tokens it has.

    Raises:
        DataError: there are no rows.
    """
    if not references:
        raise DataError("there are no rows to evaluate on")
    types = sorted({span.type for row in (*predicted, *references) for span in row})
    ids = {kind: i for i, kind in enumerate(types)}
    counts = np.zeros((len(references), 3, len(types)))
    for number, (said, real) in enumerate(zip(predicted, references, strict=True)):
        for place, spans in enumerate((set(real), set(said), set(real) & set(said))):
            for span in spans:
                counts[number, place, ids[span.type]] += 1
    sums = counts.reshape(len(references), -1)
    token_sums = np.stack([np.asarray(right_tokens, np.float64), np.asarray(tokens, np.float64)], axis=1)

    def statistic(weights: Floats) -> Mapping[str, Floats]:
        real, said, right = np.split(weights @ sums, 3, axis=1)
        f1 = ratio(2 * right, real + said)
        occurs = real > 0
        right_count, token_count = (weights @ token_sums).T
        found = {
            "f1": ratio(2 * right.sum(1), real.sum(1) + said.sum(1)),
            "precision": ratio(right.sum(1), said.sum(1)),
            "recall": ratio(right.sum(1), real.sum(1)),
            "f1_macro": ratio((f1 * occurs).sum(1), occurs.sum(1).astype(np.float64)),
            "accuracy": ratio(right_count, token_count),
        }
        if len(types) <= MOST_REPORTED:
            found |= {f"f1/{kind}": f1[:, i] for i, kind in enumerate(types)}
        return found

    return bootstrap(statistic, len(references))

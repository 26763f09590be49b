"""What a model answers lately: counts of its labels, or a histogram of its numbers, with or without a reference.

Labels are the model's own vocabulary, so they may be shown. Texts, vectors and tags of tokens are left out: the first
two have no small set of values, and tags come one a token, which would count long texts most.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

KEPT = 5000
"""Answers that the distribution is taken over."""
MOST_LABELS = 30
_BINS = 20

Value: TypeAlias = str | float | tuple[str, ...]


class AnswerCounts:
    """The last :data:`KEPT` sampled answers; written in one thread, read in any."""

    def __init__(self) -> None:
        self._values: deque[Value] = deque(maxlen=KEPT)
        self.summary: dict[str, Any] | None = None
        """Plain JSON; ``None`` before the first answer that has a label or a number."""

    def add(self, values: list[Value]) -> None:
        """Add sampled answers and renew :attr:`summary`."""
        if values:
            self._values.extend(values)
            self.summary = _summary(list(self._values))


def counted_value(output: Mapping[str, Any]) -> Value | None:
    """What is counted of an answer: its label, its labels, or its number."""
    label, labels = output.get("label"), output.get("labels")
    if isinstance(label, str):
        return label
    if labels is not None and "starts" not in output:
        return tuple(str(each) for each in labels)
    value = output.get("value")
    number = float(value) if isinstance(value, float | int | np.number) and not isinstance(value, bool) else None
    return number if number is not None and np.isfinite(number) else None


def _summary(values: list[Value]) -> dict[str, Any]:
    numbers = [value for value in values if isinstance(value, float)]
    if numbers:
        counts, edges = np.histogram(np.array(numbers), bins=_BINS)
        return {"kind": "numbers", "rows": len(numbers), "edges": edges.tolist(), "counts": counts.tolist()}
    found: Counter[str] = Counter()
    for value in values:
        found.update(value if isinstance(value, tuple) else (str(value),))
    top = found.most_common(MOST_LABELS)
    return {
        "kind": "labels",
        "rows": len(values),
        "labels": [{"label": label, "count": count} for label, count in top],
        "others": sum(found.values()) - sum(count for _, count in top),
    }

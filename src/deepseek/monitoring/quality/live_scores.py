"""How good the answers were that true answers have come in for: accuracy, AUC, calibration, each with its interval."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from deepseek.monitoring.quality.answers import Answer
from deepseek.monitoring.quality.intervals import Estimate, auc, mean, proportion


@dataclass(frozen=True, kw_only=True)
class LiveResult:
    """Scores of the labelled answers in the window; ``None`` where they cannot be had from these answers."""

    labels: int
    accuracy: Estimate | None = None
    auc: Estimate | None = None
    """Of two-class answers with a score; the positive class is the one that sorts last, or the configured one."""
    overconfidence: Estimate | None = None
    """Mean score minus accuracy: calibration in the large; 0 is calibrated, above it the model is too sure."""
    brier: Estimate | None = None
    """Mean squared distance of the score from right (1) or wrong (0)."""
    absolute_error: Estimate | None = None
    """Of numbers."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value._asdict() if isinstance(value, Estimate) else value for name, value in found.items()}


class LiveScores:
    """The last ``rows`` labelled answers that are not older than ``seconds``."""

    def __init__(self, *, rows: int, seconds: float, positive: str | None = None) -> None:
        self._joined: deque[tuple[Answer, str | float]] = deque(maxlen=rows)
        self._seconds = seconds
        self._positive = positive

    def add(self, answer: Answer, truth: str | float | bool) -> bool:
        """Add a labelled answer; ``False`` when the label is no number where the answer is one."""
        if isinstance(answer.answer, str):
            self._joined.append((answer, str(truth)))
            return True
        if isinstance(truth, bool) or not isinstance(truth, int | float):
            return False
        self._joined.append((answer, float(truth)))
        return True

    def result(self, now: float) -> LiveResult:
        """The scores of the window, whose age counts from the answer."""
        kept = [pair for pair in list(self._joined) if pair[0].at >= now - self._seconds]
        numbers = [abs(a.answer - t) for a, t in kept if not isinstance(a.answer, str) and not isinstance(t, str)]
        if numbers:
            return LiveResult(labels=len(kept), absolute_error=mean(np.array(numbers)))
        right = [a.answer == truth for a, truth in kept]
        scored = [(a.score, ok) for (a, _), ok in zip(kept, right, strict=True) if a.score is not None]
        scores, hits = np.array([s for s, _ in scored], float), np.array([ok for _, ok in scored], float)
        return LiveResult(
            labels=len(kept),
            accuracy=proportion(sum(right), len(right)),
            auc=self._auc(kept),
            overconfidence=mean(scores - hits),
            brier=mean((scores - hits) ** 2),
        )

    def _auc(self, kept: list[tuple[Answer, str | float]]) -> Estimate | None:
        classes = {str(truth) for _, truth in kept} | {str(a.answer) for a, _ in kept}
        if len(classes) != 2:
            return None
        positive = self._positive if self._positive in classes else max(classes)
        sides: dict[bool, list[float]] = {True: [], False: []}
        for answer, truth in kept:
            if answer.score is not None:
                sides[truth == positive].append(answer.score if answer.answer == positive else 1 - answer.score)
        return auc(np.array(sides[True]), np.array(sides[False]))

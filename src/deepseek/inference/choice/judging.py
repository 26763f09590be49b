"""Which of the measured candidates is taken.

- One whose outputs are further from the first candidate's than :data:`TOLERANCE` is not, however fast, unless it was
  validated: an int8 copy that scored as well on rows with answers. The first is PyTorch in float32.
- The score is the geometric mean over the batches of the time divided by the best time of that batch: a runtime that
  is twice as fast for one row and twice as slow for many is no better.
- A candidate that is not faster by :data:`WORTH` than an earlier one does not replace it: PyTorch before others, the
  more exact precision before the less exact one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from deepseek.errors import ConfigError
from deepseek.inference.choice.outcome import Trial

TOLERANCE = 0.03
"""Relative error of outputs up to which a precision counts as the same model; bfloat16 has one or two per cent."""
WORTH = 0.03


def judged(trials: Sequence[Trial], tolerance: float = TOLERANCE) -> list[Trial]:
    """The trials with their verdicts, exactly one of them chosen.

    Args:
        tolerance: the largest ``Trial.error`` that counts as exact enough.

    Raises:
        ConfigError: none can run the model; the message has each one's reason.
    """
    able = [t for t in trials if not t.verdict and (t.validated or (t.error or 0.0) <= tolerance)]
    if not able:
        reasons = "; ".join(f"{t.name}: {t.verdict or 'inexact'}" for t in trials)
        raise ConfigError(f"no runtime here can run this model: {reasons}")
    best = {batch: min(t.seconds[batch] for t in able) for batch in able[0].seconds}
    scores = [
        math.exp(statistics.fmean([math.log(t.seconds[b] / seconds) for b, seconds in best.items()] or [0.0]))
        for t in able
    ]
    winner = 0
    for number, score in enumerate(scores):
        if score < scores[winner] * (1 - WORTH):
            winner = number
    return [_with_verdict(t, able, scores, winner, tolerance) for t in trials]


def _with_verdict(trial: Trial, able: list[Trial], scores: list[float], winner: int, tolerance: float) -> Trial:
    if trial.verdict:
        return trial
    place = next((i for i, t in enumerate(able) if t is trial), None)
    if place is None:
        verdict = f"outputs differ by more than {tolerance:.0%}"
    elif place == winner:
        verdict = "chosen"
    elif scores[place] >= scores[winner]:
        verdict = f"takes {scores[place] / scores[winner]:.2f} times as long"
    else:
        verdict = f"not {WORTH:.0%} faster"
    return trial.model_copy(update={"verdict": verdict})

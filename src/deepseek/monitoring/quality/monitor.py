"""The quality of one served model: drift, confidence, and what true answers that come in later say.

On the event loop, for each request: the sampling's comparison, and a dictionary entry for each row when the request has
an id. Everything else runs in another thread, at intervals, on at most ``sample_rows`` rows:
:meth:`QualityMonitor.process`.

- *Input and prediction drift* is measured against the bundle's reference: the profile of the training table. Its answer
  column is compared with what the model predicts, so a model that favours a class shows a standing difference; watch
  its change. Windows follow one another, and the verdict is that of the last complete one.
- *Confidence* is the distribution of the answers' scores.
- *Live scores* join labels by request id: see :mod:`deepseek.monitoring.quality.live_scores`.

Sampled rows (the compared columns alone) are held until the next :meth:`process`, then only counts of them. Verdicts
name columns and effect sizes, never values. Embeddings and generated texts have no drift of the prediction here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from deepseek.errors import DeepSeekError
from deepseek.monitoring import steady
from deepseek.monitoring.metrics.families import CONFIDENCE_BUCKETS
from deepseek.monitoring.metrics.histogram import Histogram
from deepseek.monitoring.metrics.samples import Sample
from deepseek.monitoring.quality.answer_counts import AnswerCounts, Value, counted_value
from deepseek.monitoring.quality.answers import Answer, Kept, row_key
from deepseek.monitoring.quality.drift_windows import ColumnState, DriftWindows
from deepseek.monitoring.quality.intervals import Estimate
from deepseek.monitoring.quality.live_scores import LiveResult, LiveScores
from deepseek.monitoring.quality.predictions import PredictionStore
from deepseek.monitoring.quality.reservoir import Reservoir

logger = logging.getLogger("deepseek.monitoring")

Row = Mapping[str, Any]
_OUTCOMES = ("joined", "late", "unknown", "duplicate", "invalid")
Sampled = tuple[dict[str, Any], float | None, Value | None]


class QualityConfig(BaseModel):
    """What is watched of each model's answers, and how long anything is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rows: int = Field(default=256, ge=1, description="Most rows of a model that are looked at an interval.")
    interval_seconds: float = Field(default=10.0, gt=0, description="How often sampled rows are counted.")
    window_rows: int = Field(default=5000, ge=1, description="Sampled rows after which a drift window is complete.")
    window_seconds: float = Field(default=3600.0, gt=0, description="Time after which it is, if it has min_rows.")
    min_rows: int = Field(default=200, ge=1, description="Fewest rows that a verdict is given on.")
    max_columns: int = Field(default=50, ge=1, description="Most columns of a reference that are compared.")
    keep_answers: int = Field(
        default=50_000, ge=1, description="Answers a model kept in memory for labels that come later."
    )
    keep_seconds: float = Field(default=86_400.0, gt=0, description="How long an answer waits for its label.")
    spill_folder: str = Field(
        default="", description="Folder for the answers that memory has no room for; empty: they are forgotten."
    )
    spill_rows: int = Field(default=5_000_000, ge=1, description="Most answers of a model kept there.")
    label_rows: int = Field(default=10_000, ge=2, description="Labelled answers that live scores are taken over.")
    label_seconds: float = Field(default=7 * 86_400.0, gt=0, description="Oldest answer that they are taken over.")


class Label(NamedTuple):
    """A true answer that came in later."""

    request_id: str
    truth: str | float | bool
    row: int = 0


class QualityMonitor:
    """Watches one model. ``answered`` belongs to the event loop; all else may be called from any thread.

    Args:
        reference: the bundle's reference statistics, empty or ``None`` when there are none: then no drift is measured.
        answer_column: the training table's column with the true answers.
        reference_accuracy: the accuracy that the bundle was written with.
        positive: the class whose scores the AUC is of.
    """

    def __init__(
        self,
        model: str,
        version: str,
        config: QualityConfig,
        *,
        reference: Mapping[str, Any] | None = None,
        answer_column: str | None = None,
        reference_accuracy: float | None = None,
        positive: str | None = None,
        store: PredictionStore | None = None,
    ) -> None:
        self.model, self.version = model, version
        self._answer_column = answer_column
        self._reference_accuracy = reference_accuracy
        self._sample_rows = config.sample_rows
        self._sample: Reservoir[Sampled] = Reservoir(config.sample_rows)
        if store is None:
            store = PredictionStore(capacity=config.keep_answers, keep_seconds=config.keep_seconds)
        self._store = store
        self._scores = LiveScores(rows=config.label_rows, seconds=config.label_seconds, positive=positive)
        self._drift = DriftWindows(reference, config.max_columns, answer_column, config) if reference else None
        self._confidence = Histogram(CONFIDENCE_BUCKETS)
        self._answers = AnswerCounts()
        self._live = LiveResult(labels=0)
        self._labels = dict.fromkeys(_OUTCOMES, 0)
        self._rows = self._failures = 0
        self._now = steady.now()
        self._lock = threading.Lock()

    def answered(self, request_id: str | None, rows: Sequence[Row], outputs: Sequence[Row]) -> None:
        """One request was answered: ``outputs[i]`` to ``rows[i]``; only an id that the client knows makes sense."""
        self._sample.offer(len(rows), self._sampled, rows, outputs)
        if request_id:
            for i, output in enumerate(outputs):
                if (answer := read_answer(output, self._now)) is not None:
                    self._store.remember(row_key(request_id, i), answer)

    def _sampled(self, index: int, rows: Sequence[Row], outputs: Sequence[Row]) -> Sampled:
        """What is held of a sampled row: the compared columns, the score, the answer if it is counted."""
        row, output = rows[index], outputs[index]
        compared = self._drift.row(row, output) if self._drift is not None else {}
        return compared, _number(output.get("score")), counted_value(output)

    def process(self, now: float | None = None) -> None:
        """Count the sampled rows and renew verdict and scores; blocks for milliseconds, so not on the event loop."""
        with self._lock:
            self._now = now = steady.now() if now is None else now
            sample, self._sample = self._sample, Reservoir(self._sample_rows)
            sampled = sample.kept
            self._rows += len(sampled)
            for _, score, _ in sampled:
                if score is not None:
                    self._confidence.observe(score)
            self._answers.add([answer for _, _, answer in sampled if answer is not None])
            if self._drift is not None:
                try:
                    self._drift.update([row for row, _, _ in sampled], now)
                except DeepSeekError as error:
                    self._failures += 1
                    logger.warning(
                        "model %r: sampled rows do not fit the bundle's reference (%s); they are not counted",
                        self.model,
                        type(error).__name__,
                    )
            self._store.tend(now)
            self._live = self._scores.result(now)

    def add_labels(self, labels: Iterable[Label], now: float | None = None) -> dict[str, int]:
        """Join true answers with what was predicted; returns how many were joined, late, unknown, duplicate, invalid.

        *Late*: the answer is forgotten already. *Unknown*: there was no such request, or it is long ago. *Duplicate*:
        the row has its label. *Invalid*: the model answers with a number and the label is none. May read a file.
        """
        found = dict.fromkeys(_OUTCOMES, 0)
        now = steady.now() if now is None else now
        with self._lock:
            for label in labels:
                joined = self._store.join(row_key(label.request_id, label.row), now)
                if isinstance(joined, Answer):
                    found["joined" if self._scores.add(joined, label.truth) else "invalid"] += 1
                else:
                    found[joined] += 1
            for outcome, count in found.items():
                self._labels[outcome] += count
        missed = found["late"] + found["unknown"]
        if missed:
            logger.warning(
                "model %r: %d of %d labels came too late or name requests that are not known",
                self.model,
                missed,
                sum(found.values()),
            )
        return found

    @property
    def live(self) -> LiveResult:
        """Scores of the labelled answers, as of the last :meth:`process`."""
        return self._live

    @property
    def drift(self) -> list[ColumnState]:
        """Each column's verdict in the last complete window; empty without a reference or before the first verdict."""
        return self._drift.columns if self._drift is not None else []

    @property
    def confidence(self) -> float | None:
        """Mean score of the sampled answers since the start."""
        return self._confidence.sum / self._confidence.count if self._confidence.count else None

    def samples(self) -> Iterator[Sample]:
        """All ``deepseek_quality_*``, ``deepseek_drift_*``, ``deepseek_live_*`` of this model."""
        labels = (self.model, self.version)
        yield Sample("deepseek_quality_rows", labels, self._rows)
        if self._failures:
            yield Sample("deepseek_quality_failures", labels, self._failures)
        for column in self.drift:
            yield Sample("deepseek_drift_state", (*labels, column.side, column.name), column.state)
            yield Sample("deepseek_drift_effect", (*labels, column.side, column.name), column.effect)
        if self._confidence.count:
            yield Sample(
                "deepseek_prediction_confidence", labels, [list(self._confidence.counts), self._confidence.sum]
            )
        for outcome, count in self._labels.items():
            yield Sample("deepseek_labels", (*labels, outcome), count)
        yield Sample("deepseek_live_labels", labels, self._live.labels)
        for name, estimate in (
            ("deepseek_live_accuracy_ratio", self._live.accuracy),
            ("deepseek_live_auc_ratio", self._live.auc),
            ("deepseek_live_overconfidence_ratio", self._live.overconfidence),
            ("deepseek_live_absolute_error", self._live.absolute_error),
        ):
            yield from _bounds(name, labels, estimate)
        if self._reference_accuracy is not None:
            yield Sample("deepseek_reference_accuracy_ratio", labels, self._reference_accuracy)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON for a page."""
        return {
            "reference": self._drift is not None,
            "reference_accuracy": self._reference_accuracy,
            "rows": self._rows,
            "failures": self._failures,
            "drift": self._drift.to_dict() if self._drift is not None else None,
            "answers": self._answers.summary,
            "confidence": {"bounds": list(CONFIDENCE_BUCKETS), "counts": list(self._confidence.counts)},
            "mean_confidence": self.confidence,
            "labels": dict(self._labels),
            "live": self._live.to_dict(),
        }

    def close(self) -> None:
        """Write what waits for labels to its file, if it has one."""
        with self._lock:
            self._store.close()


def read_answer(output: Row, at: float) -> Kept | None:
    """What a label can be compared with: a ``label`` or a ``value``; ``None`` for vectors, texts and sets of labels."""
    label = output.get("label")
    if isinstance(label, str):
        return label, _number(output.get("score")), at
    value = _number(output.get("value"))
    return None if value is None else (value, None, at)


def _number(value: object) -> float | None:
    """A finite number, NumPy's scalars included; ``None`` for anything else, arrays included."""
    if value is None or isinstance(value, bool) or not isinstance(value, Real):
        return None
    number = float(value)
    return number if isfinite(number) else None


def _bounds(name: str, labels: tuple[str, str], estimate: Estimate | None) -> Iterator[Sample]:
    if estimate is not None:
        for bound, value in zip(("estimate", "lower", "upper"), estimate, strict=True):
            yield Sample(name, (*labels, bound), value)

"""One label for a text or a pair of texts.

Texts beyond ``max_length`` tokens are cut at the end. Labels are sorted by name when they are learned from data, so
that the same data always gives the same ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from pydantic import Field as ConfigField

from deepseek.errors import DataError
from deepseek.tasks.base import Row
from deepseek.tasks.metrics import classification_metrics
from deepseek.tasks.signature import Signature
from deepseek.tasks.single_label import SingleLabelTask
from deepseek.tasks.text_pair import TextPairTask


class TextClassification(SingleLabelTask, TextPairTask):
    """Single-label classification of texts or pairs of texts.

    Outputs per row: ``label`` (string), ``score`` (probability of that label, float32), ``scores`` (probabilities of
    all labels in the order of ``labels``, float32, shape (labels,)).
    """

    name: ClassVar[str] = "text-classification"
    head: ClassVar[str] = "sequence-classification"

    positive: str | None = ConfigField(
        None, description="A label whose precision, recall, F1 and ROC AUC are reported too."
    )

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=self.text_inputs(),
            outputs=self.label_outputs(),
        )

    def fitted(self, rows: Sequence[Row]) -> Self:
        task = super().fitted(rows)
        if self.positive is not None and self.positive not in task.labels:
            raise DataError(
                f"positive: expected one of the labels {', '.join(map(repr, task.labels))}, received {self.positive!r}"
            )
        return task

    def model_options(self) -> dict[str, Any]:
        return {**super().model_options(), "problem_type": "single_label_classification"}

    def metrics(self, answers: Sequence[Row], references: Sequence[Any]) -> dict[str, float]:
        """``accuracy``, ``f1_macro`` and ``matthews_correlation``; with ``positive`` also that label's scores.

        See :func:`deepseek.tasks.metrics.classification_metrics`.
        """
        scores = None
        if self.positive in self.labels and all("scores" in answer for answer in answers):
            at = self.labels.index(str(self.positive))
            scores = [answer["scores"][at] for answer in answers]
        predicted = [answer["label"] for answer in answers]
        return classification_metrics(predicted, references, positive=self.positive, positive_scores=scores)

"""One label for a text or a pair of texts.

Texts beyond ``max_length`` tokens are cut at the end. Labels are sorted by name when they are learned from data, so
that the same data always gives the same ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field as ConfigField

from deepseek.errors import DataError
from deepseek.tasks.base import LABELS, Row
from deepseek.tasks.labels import id_of, label_options, named
from deepseek.tasks.metrics import classification_metrics
from deepseek.tasks.signature import Field, Signature
from deepseek.tasks.text_pair import TextPairTask

if TYPE_CHECKING:
    import torch


class TextClassification(TextPairTask):
    """Single-label classification of texts or pairs of texts.

    Outputs per row: ``label`` (string), ``score`` (probability of that label, float32), ``scores`` (probabilities of
    all labels in the order of ``labels``, float32, shape (labels,)).
    """

    name: ClassVar[str] = "text-classification"
    head: ClassVar[str] = "sequence-classification"

    label: str = ConfigField("label", description="Column with the label, a string.")
    labels: tuple[str, ...] = ConfigField((), description="All labels, in id order; learned from the data when empty.")
    positive: str | None = ConfigField(
        None, description="A label whose precision, recall, F1 and ROC AUC are reported too."
    )

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=self.text_inputs(),
            outputs=(
                Field(name="label", dtype="string", description="the most probable label"),
                Field(name="score", dtype="float32", description="its probability"),
                Field(
                    name="scores",
                    dtype="float32",
                    shape=(len(self.labels) or -1,),
                    description="probabilities of " + ", ".join(self.labels),
                ),
            ),
        )

    def fitted(self, rows: Sequence[Row]) -> Self:
        found = [self._label(i, row) for i, row in enumerate(rows)]
        if not found:
            raise DataError("there are no rows to train on; expected at least one of each label")
        counts = Counter(found)
        labels = self.labels or tuple(sorted(counts))
        known = frozenset(labels)
        for number, label in enumerate(found):
            named(label, known, number, self.label)
        if len(counts) < 2:
            only, number = next(iter(counts.items()))
            raise DataError(
                f"expected at least two labels to train a classifier, received only {only!r} ({number} rows)"
            )
        if self.positive is not None and self.positive not in labels:
            raise DataError(
                f"positive: expected one of the labels {', '.join(map(repr, labels))}, received {self.positive!r}"
            )
        return self.model_copy(update={"labels": labels})

    def _label(self, number: int, row: Row) -> str:
        value = row.get(self.label)
        if not isinstance(value, str):
            raise DataError(f"row {number}: expected a string in {self.label!r}, received {value!r}")
        return value

    def model_options(self) -> dict[str, Any]:
        return {**label_options(self.labels), "problem_type": "single_label_classification"}

    def references(self, rows: Sequence[Row]) -> list[Any]:
        return [self._label(i, row) for i, row in enumerate(rows)]

    def training_labels(self, rows: Sequence[Row]) -> list[Any]:
        ids = {label: i for i, label in enumerate(self.labels)}
        return [id_of(label, ids, number, self.label) for number, label in enumerate(self.references(rows))]

    def class_counts(self, features: Sequence[Mapping[str, Any]]) -> list[int]:
        counts = Counter(int(f[LABELS]) for f in features)
        return [counts[i] for i in range(len(self.labels))]

    def loss(
        self,
        model: Any,
        batch: Mapping[str, torch.Tensor],
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[torch.Tensor, Any]:
        from torch.nn.functional import cross_entropy

        outputs = model(**{k: v for k, v in batch.items() if k != LABELS})
        loss = cross_entropy(
            outputs.logits.float(), batch[LABELS], weight=class_weights, label_smoothing=label_smoothing
        )
        return loss, outputs

    def decode(self, outputs: dict[str, torch.Tensor], count: int) -> list[dict[str, Any]]:
        scores = outputs["logits"].float().softmax(-1)
        best = scores.argmax(-1).tolist()
        rows = scores.tolist()
        return [{"label": self.labels[best[i]], "score": rows[i][best[i]], "scores": rows[i]} for i in range(count)]

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

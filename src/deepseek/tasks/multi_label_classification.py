"""Any number of labels for a text or a pair of texts.

Each label is a yes-or-no decision of its own (binary cross-entropy); an answer has the labels whose probability reaches
``threshold``, which may be none. A row without labels, ``[]``, is a row to which none applies; a missing value is an
error. CSV files have no lists: there, ``separator`` splits one string into labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field as ConfigField

from deepseek.errors import DataError
from deepseek.tasks.base import LABELS, Row
from deepseek.tasks.labels import label_options, named
from deepseek.tasks.metrics import multi_label_metrics
from deepseek.tasks.signature import Field, Signature
from deepseek.tasks.text_pair import TextPairTask

if TYPE_CHECKING:
    import torch


class MultiLabelClassification(TextPairTask):
    """Multi-label classification of texts or pairs of texts.

    Outputs per row: ``labels`` (strings, most probable first; may be empty), ``scores`` (probabilities of all labels in
    the order of the task's ``labels``, float32, shape (labels,); they do not sum to 1).
    """

    name: ClassVar[str] = "multi-label-classification"
    head: ClassVar[str] = "sequence-classification"
    main_metric: ClassVar[str] = "f1_micro"
    float_labels: ClassVar[bool] = True

    label: str = ConfigField("labels", description="Column with the labels, a list of strings.")
    labels: tuple[str, ...] = ConfigField((), description="All labels, in id order; learned from the data when empty.")
    threshold: float = ConfigField(0.5, gt=0, lt=1, description="A label is answered from this probability on.")
    separator: str | None = ConfigField(
        None, min_length=1, description="The column holds one string with this between its labels (for CSV files)."
    )

    @property
    def class_column(self) -> str | None:
        """None: a row has several."""
        return None

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=self.text_inputs(),
            outputs=(
                Field(name="labels", dtype="string", shape=(-1,), description="the labels that apply"),
                Field(
                    name="scores",
                    dtype="float32",
                    shape=(len(self.labels) or -1,),
                    description="probabilities of " + ", ".join(self.labels),
                ),
            ),
        )

    def fitted(self, rows: Sequence[Row]) -> Self:
        found = [self._labels(i, row) for i, row in enumerate(rows)]
        if not found:
            raise DataError("there are no rows to train on")
        labels = self.labels or tuple(sorted({label for row in found for label in row}))
        if not labels:
            raise DataError(f"expected at least one label in {self.label!r}, received {len(found)} rows without any")
        known = frozenset(labels)
        for number, row in enumerate(found):
            for label in row:
                named(label, known, number, self.label)
        return self.model_copy(update={"labels": labels})

    def _labels(self, number: int, row: Row) -> list[str]:
        value: Any = row.get(self.label)
        if self.separator is not None and isinstance(value, str):
            return list(dict.fromkeys(part.strip() for part in value.split(self.separator) if part.strip()))
        if hasattr(value, "tolist"):
            value = value.tolist()
        if not isinstance(value, list | tuple) or not all(isinstance(label, str) for label in value):
            hint = "; for labels in one string set the task's separator" if isinstance(value, str) else ""
            raise DataError(f"row {number}: expected a list of strings in {self.label!r}, received {value!r}{hint}")
        return list(dict.fromkeys(value))

    def model_options(self) -> dict[str, Any]:
        return {**label_options(self.labels), "problem_type": "multi_label_classification"}

    def references(self, rows: Sequence[Row]) -> list[Any]:
        return [self._labels(i, row) for i, row in enumerate(rows)]

    def training_labels(self, rows: Sequence[Row]) -> list[Any]:
        known = frozenset(self.labels)
        encoded = []
        for number, labels in enumerate(self.references(rows)):
            chosen = {named(label, known, number, self.label) for label in labels}
            encoded.append([float(label in chosen) for label in self.labels])
        return encoded

    def class_counts(self, features: Sequence[Mapping[str, Any]]) -> list[int]:
        """Rows that each label applies to."""
        counts = [0] * len(self.labels)
        for feature in features:
            for i, value in enumerate(feature[LABELS]):
                counts[i] += value > 0.5
        return counts

    def loss(
        self,
        model: Any,
        batch: Mapping[str, torch.Tensor],
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[torch.Tensor, Any]:
        """Binary cross-entropy, the mean over rows and labels.

        Class weights weigh the rows that a label applies to against those that it does not (``pos_weight``);
        smoothing moves each target towards one half.
        """
        from torch.nn.functional import binary_cross_entropy_with_logits

        outputs = model(**{k: v for k, v in batch.items() if k != LABELS})
        targets = batch[LABELS].float() * (1 - label_smoothing) + label_smoothing / 2
        return binary_cross_entropy_with_logits(outputs.logits.float(), targets, pos_weight=class_weights), outputs

    def decode(self, outputs: dict[str, torch.Tensor], count: int) -> list[dict[str, Any]]:
        answers = []
        for scores in outputs["logits"].float().sigmoid().tolist()[:count]:
            chosen = [i for i, score in enumerate(scores) if score >= self.threshold]
            chosen.sort(key=lambda i: -scores[i])
            answers.append({"labels": [self.labels[i] for i in chosen], "scores": scores})
        return answers

    def metrics(self, answers: Sequence[Row], references: Sequence[Any]) -> dict[str, float]:
        """``f1_micro``, ``f1_macro``, ``subset_accuracy``, ``f1/LABEL``, ...

        See :func:`deepseek.tasks.metrics.multi_label_metrics`.
        """
        return multi_label_metrics([answer["labels"] for answer in answers], references)

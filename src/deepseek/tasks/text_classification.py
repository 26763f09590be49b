"""One label for a text.

Texts beyond ``max_length`` tokens are cut at the end. Labels are sorted by name when they are learned from data, so
that the same data always gives the same ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field as ConfigField

from deepseek.errors import DataError
from deepseek.tasks.base import LABELS, Row, TextTask
from deepseek.tasks.signature import Field, Signature

if TYPE_CHECKING:
    import torch


class TextClassification(TextTask):
    """Single-label text classification.

    Outputs per row: ``label`` (string), ``score`` (probability of that label, float32), ``scores`` (probabilities of
    all labels in the order of ``labels``, float32, shape (labels,)).
    """

    name: ClassVar[str] = "text-classification"
    head: ClassVar[str] = "sequence-classification"

    text: str = ConfigField("text", description="Column with the text.")
    label: str = ConfigField("label", description="Column with the label, a string.")
    labels: tuple[str, ...] = ConfigField((), description="All labels, in id order; learned from the data when empty.")
    max_length: int = ConfigField(256, ge=4, le=1_000_000, description="Tokens beyond this are cut.")

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=(Field(name=self.text, dtype="string", description="the text to classify"),),
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
        counts = Counter(self._label(i, row) for i, row in enumerate(rows))
        if not counts:
            raise DataError("there are no rows to train on; expected at least one of each label")
        labels = self.labels or tuple(sorted(counts))
        if unknown := sorted(set(counts) - set(labels)):
            raise DataError(f"the data has labels that the task does not name: {', '.join(unknown)}; expected {labels}")
        if len(counts) < 2:
            only, number = next(iter(counts.items()))
            raise DataError(
                f"expected at least two labels to train a classifier, received only {only!r} ({number} rows)"
            )
        return self.model_copy(update={"labels": labels})

    def _label(self, number: int, row: Row) -> str:
        value = row.get(self.label)
        if not isinstance(value, str):
            raise DataError(f"row {number}: expected a string in {self.label!r}, received {value!r}")
        return value

    def model_options(self) -> dict[str, Any]:
        ids = dict(enumerate(self.labels))
        return {
            "num_labels": len(ids),
            "id2label": ids,
            "label2id": {label: i for i, label in ids.items()},
            "problem_type": "single_label_classification",
        }

    def references(self, rows: Sequence[Row]) -> list[Any]:
        return [self._label(i, row) for i, row in enumerate(rows)]

    def training_labels(self, rows: Sequence[Row]) -> list[Any]:
        ids = {label: i for i, label in enumerate(self.labels)}
        return [ids[label] for label in self.references(rows)]

    def class_counts(self, features: Sequence[Mapping[str, Any]]) -> list[int]:
        counts = Counter(f[LABELS] for f in features)
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
        """``accuracy``, its 95% interval (Wilson 1927) as ``accuracy_low`` and ``accuracy_high``, ``f1_macro``."""
        if not references:
            raise DataError("there are no rows to evaluate on")
        predicted = [a["label"] for a in answers]
        right = sum(p == r for p, r in zip(predicted, references, strict=True))
        low, high = _wilson(right, len(references))
        f1 = [_f1(predicted, references, label) for label in sorted(set(references))]
        return {
            "accuracy": right / len(references),
            "accuracy_low": low,
            "accuracy_high": high,
            "f1_macro": sum(f1) / len(f1),
        }


def _wilson(right: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5 / (1 + z * z / count)
    # at 0 and at all right the bounds are exactly 0 and 1; rounding may pass them by one ulp
    return max(0.0, centre - half), min(1.0, centre + half)


def _f1(predicted: Sequence[str], references: Sequence[str], label: str) -> float:
    true = sum(p == r == label for p, r in zip(predicted, references, strict=True))
    said, real = sum(p == label for p in predicted), sum(r == label for r in references)
    return 2 * true / (said + real) if said + real else 0.0

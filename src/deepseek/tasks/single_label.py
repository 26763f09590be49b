"""One label of several for a row, whatever the row's input is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field as ConfigField

from deepseek.errors import DataError
from deepseek.tasks.base import LABELS, Row, Task
from deepseek.tasks.labels import id_of, label_options, named
from deepseek.tasks.signature import Field

if TYPE_CHECKING:
    import torch


class SingleLabelTask(Task):
    """A task that gives each row one of ``labels``: cross-entropy in training, the most probable label as answer.

    Outputs per row: ``label`` (string), ``score`` (probability of that label, float32), ``scores`` (probabilities of
    all labels in the order of ``labels``, float32, shape (labels,)).
    """

    label: str = ConfigField("label", description="Column with the label, a string.")
    labels: tuple[str, ...] = ConfigField((), description="All labels, in id order; learned from the data when empty.")

    def label_outputs(self) -> tuple[Field, ...]:
        """The signature's outputs."""
        return (
            Field(name="label", dtype="string", description="the most probable label"),
            Field(name="score", dtype="float32", description="its probability"),
            Field(
                name="scores",
                dtype="float32",
                shape=(len(self.labels) or -1,),
                description="probabilities of " + ", ".join(self.labels),
            ),
        )

    def fitted(self, rows: Sequence[Row]) -> Self:
        found = self.references(rows)
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
        return self.model_copy(update={"labels": labels})

    def model_options(self) -> dict[str, Any]:
        return label_options(self.labels)

    def references(self, rows: Sequence[Row]) -> list[Any]:
        found = []
        for number, row in enumerate(rows):
            value = row.get(self.label)
            if not isinstance(value, str):
                raise DataError(f"row {number}: expected a string in {self.label!r}, received {value!r}")
            found.append(value)
        return found

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

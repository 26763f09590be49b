"""One label for a picture.

Features hold encoded pictures or paths, not pixels: the file of features stays small, and pictures are decoded, resized
and normalised by the model's image processor when a batch is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field as ConfigField

from deepseek.errors import DataError
from deepseek.tasks.base import LABELS, Row, Task
from deepseek.tasks.images.reading import open_picture, reference
from deepseek.tasks.labels import id_of, label_options, named
from deepseek.tasks.metrics import classification_metrics
from deepseek.tasks.signature import Field, Signature

if TYPE_CHECKING:
    import torch


class ImageClassification(Task):
    """Single-label image classification.

    Outputs per row: ``label`` (string), ``score`` (probability of that label, float32), ``scores`` (probabilities of
    all labels in the order of ``labels``, float32, shape (labels,)).
    """

    name: ClassVar[str] = "image-classification"
    head: ClassVar[str] = "image-classification"
    processor: ClassVar[Literal["tokenizer", "image-processor"]] = "image-processor"

    image: str = ConfigField("image", description="Column with the picture: encoded bytes, a path or a data URI.")
    label: str = ConfigField("label", description="Column with the label, a string.")
    labels: tuple[str, ...] = ConfigField((), description="All labels, in id order; learned from the data when empty.")
    flip: bool = ConfigField(False, description="Mirror half of the training pictures.")
    crop: float = ConfigField(
        0.0, ge=0, lt=1, description="Cut training pictures: the largest share of a side that is lost."
    )

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=(Field(name=self.image, dtype="bytes", description="PNG, JPEG, WebP, GIF, BMP or TIFF; or base64"),),
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

    @property
    def input_columns(self) -> tuple[str, ...]:
        return (self.image,)

    @property
    def cacheable(self) -> bool:
        return not (self.flip or self.crop)

    def fitted(self, rows: Sequence[Row]) -> Self:
        found = self.references(rows)
        if not found:
            raise DataError("there are no rows to train on; expected at least one of each label")
        labels = self.labels or tuple(sorted(set(found)))
        for number, label in enumerate(found):
            named(label, labels, number, self.label)
        if len(set(found)) < 2:
            raise DataError(
                f"expected at least two labels to train a classifier, received only {found[0]!r} ({len(found)} rows)"
            )
        return self.model_copy(update={"labels": labels})

    def model_options(self) -> dict[str, Any]:
        return label_options(self.labels)

    def references(self, rows: Sequence[Row]) -> list[Any]:
        for number, row in enumerate(rows):
            if not isinstance(row.get(self.label), str):
                raise DataError(f"row {number}: expected a string in {self.label!r}, received {row.get(self.label)!r}")
        return [row[self.label] for row in rows]

    def training_labels(self, rows: Sequence[Row]) -> list[Any]:
        ids = {label: i for i, label in enumerate(self.labels)}
        return [id_of(label, ids, number, self.label) for number, label in enumerate(self.references(rows))]

    def class_counts(self, features: Sequence[Mapping[str, Any]]) -> list[int]:
        counts = Counter(f[LABELS] for f in features)
        return [counts[i] for i in range(len(self.labels))]

    def prepare(self, rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
        """Rows to references to their pictures, whose headers were read; ``tokenizer`` is an image processor."""
        features = [reference(number, row, self.image) for number, row in enumerate(rows)]
        for feature in features:
            open_picture(feature, pixels=False).close()
        return features

    def encode(self, rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
        features = super().encode(rows, tokenizer)
        for feature in features:
            open_picture(feature)  # a damaged picture is an error now, not in the middle of training
        return features

    def collate(self, features: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
        """Features to ``pixel_values``, (batch, channels, height, width)."""
        pictures = [open_picture(feature) for feature in features]
        return {"pixel_values": tokenizer(images=pictures, return_tensors="pt")["pixel_values"]}

    def collate_training(self, features: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
        from deepseek.tasks.images.augmentation import augment

        batch = super().collate_training(features, tokenizer)
        if self.flip or self.crop:
            batch["pixel_values"] = augment(batch["pixel_values"], flip=self.flip, crop=self.crop)
        return batch

    def loss(
        self,
        model: Any,
        batch: Mapping[str, torch.Tensor],
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[torch.Tensor, Any]:
        from torch.nn.functional import cross_entropy

        outputs = model(pixel_values=batch["pixel_values"])
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
        """``accuracy``, ``f1_macro`` and ``matthews_correlation``, each with its 95% interval."""
        return classification_metrics([answer["label"] for answer in answers], references)

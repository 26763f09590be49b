"""One label for a picture.

Features hold encoded pictures or paths, not pixels: the file of features stays small, and pictures are decoded, resized
and normalised by the model's image processor when a batch is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field as ConfigField

from deepseek.tasks.base import Row
from deepseek.tasks.images.reading import open_picture, reference
from deepseek.tasks.metrics import classification_metrics
from deepseek.tasks.signature import Field, Signature
from deepseek.tasks.single_label import SingleLabelTask

if TYPE_CHECKING:
    import torch


class ImageClassification(SingleLabelTask):
    """Single-label image classification.

    Outputs per row: ``label`` (string), ``score`` (probability of that label, float32), ``scores`` (probabilities of
    all labels in the order of ``labels``, float32, shape (labels,)).
    """

    name: ClassVar[str] = "image-classification"
    head: ClassVar[str] = "image-classification"
    processor: ClassVar[Literal["tokenizer", "image-processor"]] = "image-processor"

    image: str = ConfigField("image", description="Column with the picture: encoded bytes, a path or a data URI.")
    flip: bool = ConfigField(False, description="Mirror half of the training pictures.")
    crop: float = ConfigField(
        0.0, ge=0, lt=1, description="Cut training pictures: the largest share of a side that is lost."
    )

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=(Field(name=self.image, dtype="bytes", description="PNG, JPEG, WebP, GIF, BMP or TIFF; or base64"),),
            outputs=self.label_outputs(),
        )

    @property
    def input_columns(self) -> tuple[str, ...]:
        return (self.image,)

    @property
    def cacheable(self) -> bool:
        return not (self.flip or self.crop)

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

    def metrics(self, answers: Sequence[Row], references: Sequence[Any]) -> dict[str, float]:
        """``accuracy``, ``f1_macro`` and ``matthews_correlation``, each with its 95% interval."""
        return classification_metrics([answer["label"] for answer in answers], references)

"""A number for a text or a pair of texts: similarity, quality, a rating.

The loss is the mean squared error, so numbers of the size of ratings (0 to 5) train as they are; ``standardise`` is for
others (prices, counts): the model then learns numbers of mean 0 and deviation 1, and answers are in the unit of the
data. A model trained so gives standardised numbers in plain transformers, which knows nothing of the unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field as ConfigField
from pydantic import model_validator

from deepseek.errors import DataError
from deepseek.tasks.base import LABELS, Row
from deepseek.tasks.metrics import regression_metrics
from deepseek.tasks.signature import Field, Signature
from deepseek.tasks.text_pair import TextPairTask

if TYPE_CHECKING:
    import torch


class TextRegression(TextPairTask):
    """Regression on texts or pairs of texts.

    Output per row: ``value`` (float32, in the unit of the training data).
    """

    name: ClassVar[str] = "text-regression"
    head: ClassVar[str] = "sequence-classification"
    main_metric: ClassVar[str] = "pearson"
    float_labels: ClassVar[bool] = True

    label: str = ConfigField("label", description="Column with the number.")
    minimum: float | None = ConfigField(
        None,
        description="Smallest number there can be: smaller ones in the data are an error, answers are raised to it.",
    )
    maximum: float | None = ConfigField(
        None,
        description="Largest number there can be: larger ones in the data are an error, answers are lowered to it.",
    )
    standardise: bool = ConfigField(False, description="Train on numbers of mean 0 and deviation 1.")
    mean: float = ConfigField(0.0, description="Learned from the data with standardise.")
    scale: float = ConfigField(1.0, gt=0, description="Standard deviation, learned from the data with standardise.")

    @model_validator(mode="after")
    def _range_is_one(self) -> TextRegression:
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"expected minimum < maximum, received {self.minimum} and {self.maximum}")
        return self

    @property
    def class_column(self) -> str | None:
        """None: numbers are no classes."""
        return None

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=self.text_inputs(),
            outputs=(Field(name="value", dtype="float32", description="the number, in the unit of the training data"),),
        )

    def fitted(self, rows: Sequence[Row]) -> Self:
        values = self.references(rows)
        if not values:
            raise DataError("there are no rows to train on")
        if not self.standardise:
            return self
        mean = math.fsum(values) / len(values)
        scale = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
        if not scale > 0:
            raise DataError(
                f"expected different numbers in {self.label!r} to standardise, received {values[0]} in all "
                f"{len(values)} rows"
            )
        return self.model_copy(update={"mean": mean, "scale": scale})

    def _value(self, number: int, row: Row) -> float:
        value: Any = row.get(self.label)
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"row {number}: expected a finite number in {self.label!r}, received {value!r}")
        low, high = self.minimum, self.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
            raise DataError(f"row {number}: expected {bounds} in {self.label!r}, received {value!r}")
        return float(value)

    def model_options(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def references(self, rows: Sequence[Row]) -> list[Any]:
        return [self._value(i, row) for i, row in enumerate(rows)]

    def training_labels(self, rows: Sequence[Row]) -> list[Any]:
        return [(value - self.mean) / self.scale for value in self.references(rows)]

    def loss(
        self,
        model: Any,
        batch: Mapping[str, torch.Tensor],
        *,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[torch.Tensor, Any]:
        """Mean squared error; there are no classes to weigh or to smooth."""
        from torch.nn.functional import mse_loss

        self.refuse_class_options(class_weights, label_smoothing)
        outputs = model(**{k: v for k, v in batch.items() if k != LABELS})
        return mse_loss(outputs.logits.float().squeeze(-1), batch[LABELS].float()), outputs

    def decode(self, outputs: dict[str, torch.Tensor], count: int) -> list[dict[str, Any]]:
        values = outputs["logits"].float().reshape(count, -1)[:, 0] * self.scale + self.mean
        if self.minimum is not None or self.maximum is not None:
            values = values.clamp(self.minimum, self.maximum)
        return [{"value": value} for value in values.tolist()]

    def metrics(self, answers: Sequence[Row], references: Sequence[Any]) -> dict[str, float]:
        """``pearson``, ``spearman``, ``mae``, ``rmse``; see :func:`deepseek.tasks.metrics.regression_metrics`."""
        return regression_metrics([answer["value"] for answer in answers], references)

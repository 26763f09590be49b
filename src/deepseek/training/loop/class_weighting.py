"""How much each class counts in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from deepseek.errors import ConfigError, DataError, UnknownNameError

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Task


def class_weights(
    task: Task, features: Sequence[Mapping[str, Any]], chosen: Literal["balanced"] | Mapping[str, float] | None
) -> torch.Tensor | None:
    """One weight a class in id order, float32, shape (classes,); ``None`` weighs all rows alike.

    ``balanced`` gives class ``c`` the weight ``rows / (classes * rows of c)`` (King and Zeng 2001), so that the mean
    weight of a row is 1.

    Raises:
        ConfigError: the task has no classes, or a weight is not above 0.
        UnknownNameError: a weight is for a label that the task does not have.
    """
    import torch

    if chosen is None:
        return None
    if chosen == "balanced":
        try:
            counts = task.class_counts(features)
        except DataError as error:
            raise ConfigError(f"training.class_weights: {error}") from error
        total, classes = sum(counts), len(counts)
        return torch.tensor([total / (classes * max(1, count)) for count in counts], dtype=torch.float32)
    labels = list(getattr(task, "labels", ()))
    if not labels:
        raise ConfigError(f"training.class_weights: {task.name} has no labels; leave class_weights out")
    for label, weight in chosen.items():
        if label not in labels:
            raise UnknownNameError("label", label, labels, hint="training.class_weights names labels of the task.")
        if not weight > 0:
            raise ConfigError(f"training.class_weights: expected a weight above 0 for {label!r}, received {weight}")
    return torch.tensor([float(chosen.get(label, 1.0)) for label in labels], dtype=torch.float32)

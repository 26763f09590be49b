"""What the server knows of a model that lives in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deepseek.serving.workers.messages import Loaded
from deepseek.tasks.signature import Signature


@dataclass(frozen=True)
class ModelDescription:
    """The attributes of a :class:`~deepseek.serving.models.served_model.ServedModel`, without its ``predict``."""

    name: str
    version: str
    task: str
    platform: str
    signature: Signature
    reference: Mapping[str, Any] = field(default_factory=dict)
    """Statistics of the training data, which drift is measured against, and the rest of what monitoring asks for."""
    reference_metrics: Mapping[str, float] = field(default_factory=dict)
    answer_column: str | None = None

    @classmethod
    def told(cls, message: Loaded) -> ModelDescription:
        """What a worker says that it has loaded."""
        return cls(
            name=message.name,
            version=message.version,
            task=message.task,
            platform=message.platform,
            signature=Signature.model_validate(message.signature),
            reference=message.reference,
            reference_metrics=message.reference_metrics,
            answer_column=message.answer_column,
        )

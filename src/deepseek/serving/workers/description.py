"""What the server knows of a model that lives in another process."""

from __future__ import annotations

from dataclasses import dataclass

from deepseek.serving.workers.messages import Loaded
from deepseek.tasks.signature import Signature


@dataclass(frozen=True)
class ModelDescription:
    """The attributes of a :class:`~deepseek.serving.model.ServedModel`, without its ``predict``."""

    name: str
    version: str
    task: str
    platform: str
    signature: Signature

    @classmethod
    def told(cls, message: Loaded) -> ModelDescription:
        """What a worker says that it has loaded."""
        return cls(
            name=message.name,
            version=message.version,
            task=message.task,
            platform=message.platform,
            signature=Signature.model_validate(message.signature),
        )

"""The part of a recipe that training needs; :class:`deepseek.recipe.Recipe` extends it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from deepseek.models.adapters.config import LoRAConfig
from deepseek.tasks import TASKS
from deepseek.tasks.base import Task
from deepseek.training.config import TrainingConfig


class AdapterRecipe(LoRAConfig):
    """A LoRA adapter and its name."""

    name: str = Field("default", pattern=r"^[A-Za-z0-9_-]+$", description="The adapter's name.")

    def lora(self) -> LoRAConfig:
        """The adapter's configuration without its name."""
        return LoRAConfig(**self.model_dump(exclude={"name"}))


class TrainingRecipe(BaseModel):
    """Task, adapter and optimisation settings. The same on the same data, seed and machine gives the same model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, lt=2**32)
    task: dict[str, Any] = Field(description="The task's `name` and its options.")
    adapter: AdapterRecipe | None = Field(None, description="Train a LoRA adapter; null trains all weights.")
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    def build_task(self) -> Task:
        """The task object, with the options that the recipe gives it.

        Raises:
            UnknownNameError: no task has that name.
        """
        return TASKS.get(str(self.task.get("name")))(**{k: v for k, v in self.task.items() if k != "name"})

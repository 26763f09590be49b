"""The fields of a recipe. Each part is the configuration class of the layer that it configures."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepseek.data.cleaning import CleaningConfig
from deepseek.data.splits import SplitConfig
from deepseek.models.quantization import Quantization
from deepseek.serving.config import ServingConfig
from deepseek.tasks import TASKS
from deepseek.training.config import TrainingConfig
from deepseek.training.recipe import TrainingRecipe
from deepseek.training.search.config import SearchConfig


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataRecipe(_Part):
    """Where the rows come from and what happens to them before training."""

    source: str = Field(
        description="A named data set (`deepseek data list`) or the path of a CSV, TSV, JSONL or Parquet file."
    )
    strict: bool = Field(
        False, description="Stop at the first malformed row instead of putting it into the rejects table."
    )
    split: SplitConfig = Field(default_factory=SplitConfig, description="Held-out shares.")
    clean: CleaningConfig | None = Field(default_factory=CleaningConfig, description="Cleaning steps; null skips them.")


class ModelRecipe(_Part):
    """Which checkpoint to start from."""

    base: str = Field(description="A catalogue name (`deepseek hub list`), a hub id, a model folder or a GGUF file.")
    quantization: Quantization = Field(
        "none", description="int8 or nf4: keep the frozen base in 8 or 4 bits while an adapter trains (QLoRA)."
    )


class PretrainingRecipe(_Part):
    """Masked language modelling on the training texts, without labels, before the task is trained."""

    max_length: int = Field(128, ge=8, description="Tokens of a sequence, which several texts fill.")
    mask_probability: float = Field(0.15, gt=0, lt=1, description="Share of the tokens to predict.")
    training: TrainingConfig = Field(
        default_factory=lambda: TrainingConfig(epochs=3, batch_size=16, learning_rate=2e-4),
        description="How the base is pre-trained; all of its weights train.",
    )


class EvaluationRecipe(_Part):
    """What the trained model is compared with."""

    baseline: Literal["tfidf", "none"] = Field(
        "none", description="tfidf: also train TF-IDF + logistic regression on the same rows and report both."
    )


class Recipe(TrainingRecipe):
    """A whole run. The same recipe on the same data, seed and machine gives the same model."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the run folder and the served model.")
    data: DataRecipe
    model: ModelRecipe
    pretraining: PretrainingRecipe | None = Field(
        None, description="Let the base read the training texts first: for a language or a field that is new to it."
    )
    evaluation: EvaluationRecipe = Field(default_factory=EvaluationRecipe)
    search: SearchConfig | None = Field(None, description="What `deepseek tune` varies, and how long.")
    serving: ServingConfig = Field(default_factory=ServingConfig)
    license: str = Field("Apache-2.0", description="Licence of the resulting model, written into its bundle.")

    @model_validator(mode="after")
    def _quantised_base_has_adapter(self) -> Self:
        if self.model.quantization != "none" and self.adapter is None:
            raise ValueError(
                f"model.quantization {self.model.quantization!r} freezes the base; there has to be an adapter to train"
            )
        return self


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe, for editors that complete and check YAML."""
    schema = Recipe.model_json_schema()
    variants = []
    for name in TASKS.names():
        task = TASKS.get(name).model_json_schema()
        task["properties"] = {"name": {"const": name}, **task.get("properties", {})}
        task["required"] = ["name", *task.get("required", [])]
        variants.append(task)
    schema["properties"]["task"] = {"description": "The task's name and its options.", "oneOf": variants}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema

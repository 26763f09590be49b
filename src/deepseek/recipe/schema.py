"""The fields of a recipe. Each part is the configuration class of the layer that it configures."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepseek.data.cleaning import CleaningConfig
from deepseek.data.splits import SplitConfig
from deepseek.models.architecture import ArchitectureConfig
from deepseek.models.quantization import Quantization
from deepseek.models.tokenizers.config import TokenizerConfig
from deepseek.serving.config import ServingConfig
from deepseek.tasks import TASKS
from deepseek.tasks.language_modelling.packing import Packing
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
    """Which checkpoint to start from, or what to make from scratch: ``base``, or ``architecture`` and ``tokenizer``."""

    base: str | None = Field(
        None, description="A catalogue name (`deepseek hub list`), a hub id, a model folder or a GGUF file."
    )
    architecture: ArchitectureConfig | None = Field(
        None, description="Instead of a base: a model of random weights; its type, and its configuration's fields."
    )
    tokenizer: TokenizerConfig | None = Field(
        None, description="For an architecture: the tokenizer to train on the training rows, or to take over."
    )
    quantization: Quantization = Field(
        "none", description="int8 or nf4: keep the frozen base in 8 or 4 bits while an adapter trains (QLoRA)."
    )

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        given = [name for name in ("base", "architecture") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "expected 'base' (a checkpoint to start from) or 'architecture' (a model from scratch), received "
                + ("both" if given else "neither")
            )
        if (self.architecture is None) != (self.tokenizer is None):
            raise ValueError(
                "expected a 'tokenizer' for the architecture, received none"
                if self.tokenizer is None
                else "a base has its own tokenizer; leave out 'tokenizer'"
            )
        if self.architecture is not None and self.quantization != "none":
            raise ValueError("an architecture is trained from scratch, so it cannot be quantised; leave one out")
        return self


class PretrainingRecipe(_Part):
    """Masked language modelling on the training texts, without labels, before the task is trained."""

    max_length: int = Field(128, ge=8, description="Tokens of a sequence, which several texts fill.")
    mask_probability: float = Field(0.15, gt=0, lt=1, description="Share of the tokens to predict.")
    packing: Packing = Field(
        True, description="Fill sequences with several texts, which do not see each other; joined: which do."
    )
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

    @model_validator(mode="after")
    def _all_of_a_new_model_trains(self) -> Self:
        if self.model.architecture is None:
            return self
        if self.adapter is not None:
            raise ValueError(
                "an adapter changes what a model has learned, and model.architecture starts from random weights; leave "
                "out adapter"
            )
        if self.training.train == "head":
            raise ValueError("training.train 'head' freezes the rest of the model, whose weights are random; use auto")
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

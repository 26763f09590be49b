"""Trains a recipe in a process of its own: and scores it on held-out rows, or keeps what it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.lora_parts.contestants import rows_of
from benchmarks.worker import Clock, serve


def train(clock: Clock, *, recipe: dict[str, Any], base: str, train: str, test: str) -> dict[str, float]:
    """Held-out metrics; the clock covers training, from loading the model to the trained weights."""
    from deepseek.inference.torch_runtime import TorchModel
    from deepseek.training import TrainingRecipe, fit

    with clock:
        result = fit(base, rows_of(train), TrainingRecipe.model_validate(recipe))
    return result.task.score(TorchModel(result.model), rows_of(test), result.tokenizer, batch_size=64)


def pretrain(clock: Clock, *, recipe: dict[str, Any], train: str, folder: str) -> None:
    """Leave the recipe's base after its pre-training in ``folder / "pretrained"``."""
    from deepseek.models import resolve
    from deepseek.recipe import Recipe
    from deepseek.recipe.pretraining import pretrained

    given = Recipe.model_validate(recipe)
    with clock:
        pretrained(resolve(given.model.base), rows_of(train), given, Path(folder))


if __name__ == "__main__":
    serve(train, pretrain)

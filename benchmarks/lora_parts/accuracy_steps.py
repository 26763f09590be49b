"""Trains a recipe and scores it on held-out rows, in a process of its own."""

from __future__ import annotations

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


if __name__ == "__main__":
    serve(train)

"""Trains a recipe in a process of its own: and scores it on held-out rows, or keeps what it made."""

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


def pretrain(clock: Clock, *, recipe: dict[str, Any], base: str, train: str, target: str) -> str:
    """Train on the texts alone and write the trunk, without its head, to a folder; returns the folder."""
    from deepseek.training import TrainingRecipe, fit

    texts = [{"text": row["text"]} for row in rows_of(train)]
    with clock:
        result = fit(base, texts, TrainingRecipe.model_validate(recipe))
    result.model.base_model.save_pretrained(target)
    result.tokenizer.save_pretrained(target)
    return target


if __name__ == "__main__":
    serve(train, pretrain)

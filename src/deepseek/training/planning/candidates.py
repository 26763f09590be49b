"""The ways to train that a plan may choose, the most accurate first.

Tiers, each only looked at if none of an earlier tier fits the budgets:

1. all layers that the recipe adapts (or trains), the recipe's dropout;
2. the same without dropout in the frozen trunk;
3. the upper three quarters, half, quarter of the layers with adapters, the lower ones run as they are or cached.

Within a tier accuracy is taken as equal, and the fastest wins: precision (float32, or bfloat16 where the hardware
multiplies it natively), checkpointing, micro-batches (the rows of an optimiser step never change, only how they are
accumulated). What the recipe fixes (a precision, checkpointing on, the micro-batch as an upper bound) stays fixed.
"""

from __future__ import annotations

from collections.abc import Iterator

from deepseek.arithmetic import trains_in_bfloat16
from deepseek.training.config import TrainingConfig
from deepseek.training.planning.settings import Settings
from deepseek.training.recipe import TrainingRecipe


def tiers(
    recipe: TrainingRecipe, layers: int, *, frozen: bool, allow_shallow: bool, allow_cache: bool
) -> Iterator[list[Settings]]:
    """Lists of settings with the largest micro-batch, each list of equal expected accuracy.

    Args:
        layers: of the model.
        frozen: whether the recipe leaves weights frozen (an adapter, or only a head).
    """
    training = recipe.training
    dropout = training.trunk_dropout if frozen else None
    shallow = frozen and recipe.adapter is not None and recipe.adapter.layers is None and allow_shallow and layers > 1
    given = _given_depth(recipe, layers)
    keep = training.cache_frozen and given is not None
    yield _variants(training, dropout, given if keep else None, (keep,))
    if frozen and dropout != 0.0:
        yield _variants(training, 0.0, given if keep else None, (keep,))
    if shallow:
        caches = (False, True) if allow_cache or training.cache_frozen else (False,)
        for depth in dict.fromkeys(max(1, round(layers * share)) for share in (0.75, 0.5, 0.25)):
            if depth < layers:
                yield _variants(training, 0.0, depth, caches)
    elif given is not None and given < layers and not keep and allow_cache:
        yield _variants(training, 0.0, given, (True,))


def _given_depth(recipe: TrainingRecipe, layers: int) -> int | None:
    """Upper layers through which gradients flow, if the recipe says so itself."""
    if recipe.adapter is not None and recipe.adapter.layers:
        return layers - min(recipe.adapter.layers)
    return 0 if recipe.adapter is None and recipe.training.train == "head" else None


def trained_layers(recipe: TrainingRecipe, settings: Settings, layers: int) -> int:
    """Upper layers through which gradients flow under ``settings``."""
    if settings.adapted_layers is not None:
        return settings.adapted_layers
    given = _given_depth(recipe, layers)
    return layers if given is None else given


def _variants(
    training: TrainingConfig, dropout: float | None, depth: int | None, caches: tuple[bool, ...]
) -> list[Settings]:
    if training.precision == "auto":
        precisions = ["bfloat16", "float32"] if trains_in_bfloat16() else ["float32"]
    else:
        precisions = [training.precision]
    checkpointing = (True,) if training.gradient_checkpointing else (False, True)
    return [
        Settings.model_validate(
            {
                "precision": precision,
                "gradient_checkpointing": again,
                "batch_size": training.batch_size,
                "micro_batch_size": min(training.batch_size, training.micro_batch_size or training.batch_size),
                "group_by_length": training.group_by_length,
                "trunk_dropout": dropout,
                "adapted_layers": depth,
                "cache_frozen": cache,
            }
        )
        for cache in sorted(caches, reverse=True)
        for precision in precisions
        for again in checkpointing
    ]


def smaller_batches(settings: Settings) -> list[int]:
    """Micro-batches below the present one that divide the batch evenly, the largest first."""
    return [n for n in range(settings.micro_batch_size - 1, 0, -1) if settings.batch_size % n == 0]


def suggest_after_oom(training: TrainingConfig, *, adapter: bool) -> list[str]:
    """What to change in a recipe that ran out of memory, the cheapest in accuracy and time first."""
    rows = training.micro_batch_size or training.batch_size
    advice: list[str] = []
    if adapter and training.trunk_dropout != 0.0:
        advice.append("trunk_dropout: 0 (no dropout masks are kept for the frozen layers)")
    if training.precision != "bfloat16" and trains_in_bfloat16():
        advice.append("precision: bfloat16 (half the activations, and half the frozen weights)")
    if rows > 1:
        smaller = max((n for n in range(1, rows // 2 + 1) if training.batch_size % n == 0), default=1)
        advice.append(f"micro_batch_size: {smaller} (the same batch of {training.batch_size}, in more passes)")
    if not training.gradient_checkpointing:
        advice.append("gradient_checkpointing: true (activations are computed twice)")
    if not adapter:
        advice.append("an adapter (no gradients and optimiser states of the frozen weights)")
    else:
        advice.append("adapter.layers: the upper half of the layers (nothing is kept for the lower ones)")
    advice.append("a smaller max_length of the task")
    return advice

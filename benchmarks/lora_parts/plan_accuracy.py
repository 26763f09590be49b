"""The planner's memory and step time against a fresh process that then trains so, over a grid of settings.

The training is the planner's rehearsal (random weights, the loop's steps without its data), so each setting can be
measured alone, also those that a search would not choose; ``plan.py`` measures whole runs of ``fit``.
"""

from __future__ import annotations

from typing import Any

LORA: dict[str, Any] = {"r": 16, "target_modules": ["query", "value"]}
SIZES: dict[str, dict[str, int]] = {
    "MiniLM": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "BERT-base": {},
}
CASES: dict[str, tuple[str, bool, int, int, dict[str, Any]]] = {
    "MiniLM, all weights": ("MiniLM", False, 32, 64, {}),
    "MiniLM, adapter": ("MiniLM", True, 16, 128, {"trunk_dropout": 0.0}),
    "MiniLM, adapter, dropout": ("MiniLM", True, 16, 128, {}),
    "MiniLM, adapter, bf16": ("MiniLM", True, 16, 128, {"trunk_dropout": 0.0, "precision": "bfloat16"}),
    "BERT-base, all weights": ("BERT-base", False, 8, 256, {}),
    "BERT-base, adapter": ("BERT-base", True, 8, 256, {"trunk_dropout": 0.0}),
    "BERT-base, adapter, bf16": ("BERT-base", True, 8, 256, {"trunk_dropout": 0.0, "precision": "bfloat16"}),
    "BERT-base, adapter, bf16, checkpointing": (
        "BERT-base", True, 8, 256, {"trunk_dropout": 0.0, "precision": "bfloat16", "gradient_checkpointing": True},
    ),
    "BERT-base, adapter in the upper half, bf16": (
        "BERT-base", True, 8, 256, {"trunk_dropout": 0.0, "precision": "bfloat16", "adapted_layers": 6},
    ),
}  # fmt: skip
"""Size, adapter or all weights, rows, tokens, settings."""


def plan_accuracy(name: str) -> dict[str, float]:
    """Predict one of :data:`CASES`, then run it in a fresh process.

    Returns:
        ``predicted_bytes``, ``measured_bytes`` (peak resident memory), ``predicted_seconds``, ``measured_seconds``
        (of one optimiser step at the full length, median).
    """
    from statistics import median

    import numpy as np
    import transformers

    from deepseek.training import TrainingRecipe
    from deepseek.training.planning.candidates import trained_layers
    from deepseek.training.planning.rehearsal import Act, rehearsal_of, rehearse
    from deepseek.training.planning.residency import on_meta
    from deepseek.training.planning.search import PROCESS_GROWTH
    from deepseek.training.planning.settings import Settings
    from deepseek.training.planning.simulation import simulate
    from deepseek.training.planning.skeleton import adapted, copied, skeleton
    from deepseek.training.planning.steps import template
    from deepseek.training.planning.timing import LOOP_SECONDS, START_SECONDS, Length, acts, run_seconds, step_times

    size, adapter, rows, tokens, changes = CASES[name]
    recipe = TrainingRecipe(
        task={"name": "text-classification", "labels": ["a", "b"]}, adapter=LORA if adapter else None
    )
    settings = Settings.model_validate({"batch_size": rows, "micro_batch_size": rows, **changes})
    config = transformers.BertConfig(num_labels=2, **SIZES[size])
    bare, task = skeleton(config, recipe), recipe.build_task()
    batch = template(task, bare.config)
    footprint = simulate(adapted(copied(bare, on_meta), recipe, settings), settings, recipe, task, batch, [tokens] * 3)
    layers = config.num_hidden_layers
    timed = rehearse(rehearsal_of(bare, recipe, task, batch, "cpu", acts(settings, layers, [tokens]), short=True))
    seconds = run_seconds(
        step_times(timed, 0, layers), settings, np.array([[rows, tokens]]), Length(epochs=1), layers=layers,
        trained=trained_layers(recipe, settings, layers), state_bytes=0,
    )  # fmt: skip
    shapes = [(rows, tokens // 4), (rows, tokens), (rows, tokens // 2), (rows, tokens)]
    done = rehearse(rehearsal_of(bare, recipe, task, batch, "cpu", [Act(settings=settings, shapes=shapes)]))
    return {
        "predicted_bytes": float(timed.imported_bytes + PROCESS_GROWTH + footprint.resident),
        "measured_bytes": float(done.peak_bytes),
        "predicted_seconds": seconds - LOOP_SECONDS - START_SECONDS,
        "measured_seconds": median(t.compute + t.update for t in done.timings if t.tokens == tokens),
    }

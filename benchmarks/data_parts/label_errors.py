"""Claim: of labels flipped on purpose, ours finds more with fewer false alarms than plain cleanlab does.

Movie-review sentences with human ratings (about 10,500), 5% of the labels flipped, several seeds. Ours is the cleaner's
label check with its defaults. cleanlab is used as its text tutorial shows: ``CleanLearning`` around scikit-learn's
logistic regression, five folds, on TF-IDF of words and word pairs, and on those with character n-grams beside them,
which is what our models look at; the better of the two is the baseline. Some labels are wrong without being flipped,
which costs both sides precision alike.
"""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np

from benchmarks.data_parts.context import Context
from benchmarks.harness import Figure, Measured, Worker, alternate, say

STEPS = "benchmarks.data_parts.label_error_steps"
FLIPPED = 0.05


def run(context: Context) -> dict[str, Figure]:
    """F1, precision and recall, as means over the seeds."""
    seeds, rows = context.pick(3, 1), context.pick(0, 1_500)
    say(f"label errors: {FLIPPED:.0%} flipped, {seeds} seeds")
    contestants = {"ours": "ours", "cleanlab, words": "words", "cleanlab, words and characters": "characters"}
    with Worker(STEPS) as worker:
        count = worker.run("load", rows=rows)["value"]
        each: dict[str, list[Measured]] = {name: [] for name in contestants}
        for seed in range(context.seed, context.seed + seeds):
            worker.run("flip", share=FLIPPED, seed=seed)
            turns = {name: partial(worker.run, "find", way=way, seed=seed) for name, way in contestants.items()}
            for name, measured in alternate(turns, 1).items():
                each[name].append(measured)
    scores = {name: np.array([m.value for m in found]).mean(axis=0) for name, found in each.items()}
    for name, (precision, recall, f1) in scores.items():
        say(f"  {name}: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")
    plain = max((name for name in contestants if name != "ours"), key=lambda name: scores[name][2])
    seconds = {name: statistics.median(m.median for m in found) for name, found in each.items()}
    spread = ", ".join(f"{m.value[2]:.3f}" for m in each["ours"])
    figures = {}
    for index, what in enumerate(("precision", "recall", "f1")):
        figures[f"label_error_{what}"] = Figure(
            value=float(scores["ours"][index]),
            unit=what if what != "f1" else "F1",
            baseline=float(scores[plain][index]),
            baseline_name=plain,
            note=f"bigger is better. {count:,} sentences, {FLIPPED:.0%} flipped, mean of {seeds} seeds",
        )
    figures["label_error_f1"] = Figure(
        **{**vars(figures["label_error_f1"]), "note": figures["label_error_f1"].note + f" (ours {spread})"}
    )
    figures["label_error_s"] = Figure(
        value=seconds["ours"], unit="s", baseline=seconds[plain], baseline_name=plain, note="smaller is better"
    )
    return figures

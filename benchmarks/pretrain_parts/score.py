"""Mean score of a BERT and a DeepSeek-Base of equal size, corpus and steps, fine-tuned on four tasks.

Both get a choice of learning rates, in pre-training by the loss on tokens that are kept apart, in fine-tuning by
validation, with the first seed; BERT gets a choice of classifiers too. All other settings are the same for both. A
DeepSeek-Base with half of the layers says how small one of BERT's accuracy may be.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import Figure, Worker, say
from benchmarks.pretrain_parts.corpora import TASKS
from benchmarks.pretrain_parts.models import CLASSIFIERS, KINDS, SHALLOW
from benchmarks.trainings import Context

STEPS = "benchmarks.pretrain_parts.score_steps"
LONG_TASK, LONGER_THAN = "20-newsgroups", 1_024
SETTINGS: dict[str, Any] = {
    "most": None,
    "vocabulary": 10_000,
    "size": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2},
    "tokens": 512,
    "batch": 8,
    "steps": 2_500,
    "masked": 0.15,
    "rates": {"bert": [2e-3, 4e-3], "deepseek-base": [2e-3, 1e-3], SHALLOW: [2e-3]},
    "finetuning": {
        "rates": [2e-4, 6e-4],
        "batch_tokens": 2_048,
        "dropout": 0.1,
        "epochs": {"movie-sentences": 4, "r8": 4, "20-newsgroups": 3, "chinese-reviews": 3},
        "longest": {"bert": 512, "deepseek-base": 1_024, SHALLOW: 1_024},
    },
}
QUICK: dict[str, Any] = {
    **SETTINGS,
    "most": 60,
    "vocabulary": 3_000,
    "size": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1},
    "batch": 2,
    "steps": 3,
    "rates": {"bert": [1e-3], "deepseek-base": [1e-3], SHALLOW: [1e-3]},
    "finetuning": {**SETTINGS["finetuning"], "epochs": dict.fromkeys(TASKS, 1)},
}
EACH = (*KINDS, SHALLOW)
DRAWS = 10_000
Scores = dict[tuple[str, str], list[dict[str, Any]]]
"""(kind, task) -> what each seed's model got right."""


def run(context: Context) -> dict[str, Figure]:
    """Pre-train, fine-tune, compare; models and answers that the context's folder has are not made again."""
    settings = QUICK if context.quick else SETTINGS
    folder = context.folder / "score"
    folder.mkdir(exist_ok=True)
    common = {"folder": str(folder), "settings": settings}
    with Worker(STEPS) as worker:
        prepared = worker.run("prepare", limit_s=3_600, **common)["value"]
    say(f"corpus: {prepared['tokens']:,} tokens, a vocabulary of {prepared['vocabulary']:,}")
    models = _pretrained(context, common)
    scores, tuned = _finetuned(context, common, models)
    (folder / "chosen.json").write_text(json.dumps({"tuned": tuned}), encoding="utf-8")
    longer_than = 128 if context.quick else LONGER_THAN
    with Worker(STEPS) as worker:
        long = worker.run(
            "long_texts", limit_s=3_600, tuned=tuned[KINDS[1]][LONG_TASK], task=LONG_TASK, longer_than=longer_than,
            folder=str(folder),
        )["value"]  # fmt: skip
    return {**_pretraining_figures(models), **_score_figures(scores), **_long_figures(long)}


def _pretrained(context: Context, common: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Reports of each kind's models, a seed each, with the rate that its first seed chose."""

    def work(worker: Worker, job: tuple[str, int, float]) -> dict[str, Any]:
        kind, seed, rate = job
        made = worker.run("pretrain", limit_s=14_400, kind=kind, seed=seed, rate=rate, **common)["value"]
        say(f"{kind}, seed {seed}, rate {rate}: held-out loss {made['loss']:.3f}, {made['seconds']:.0f} s")
        return {**made, "kind": kind, "rate": rate, "weights": f"{kind}-{seed}-{rate}.safetensors"}

    rates = common["settings"]["rates"]
    jobs = [(kind, 0, rate) for kind in EACH for rate in rates[kind]]
    jobs.sort(key=lambda job: rates[job[0]].index(job[2]))  # each kind's first soon: what is wrong shows early
    first = context.together(work, jobs, STEPS)
    best = {kind: min((m for m in first if m["kind"] == kind), key=lambda m: m["loss"]) for kind in EACH}
    others = [(kind, seed, best[kind]["rate"]) for seed in range(1, context.seeds) for kind in EACH]
    made = context.together(work, others, STEPS)
    return {kind: [best[kind], *(m for m in made if m["kind"] == kind)] for kind in EACH}


def _finetuned(
    context: Context, common: dict[str, Any], models: dict[str, list[dict[str, Any]]]
) -> tuple[Scores, dict[str, dict[str, str]]]:
    """Answers of all models; by kind and task, the folder of the first seed's best with the architecture's own head,
    which transformers can load."""

    def work(worker: Worker, job: tuple[str, str, int, float, str]) -> dict[str, Any]:
        kind, task, seed, rate, pooling = job
        made = worker.run(
            "finetune", limit_s=14_400, kind=kind, seed=seed, weights=models[kind][seed]["weights"], task=task,
            rate=rate, pooling=pooling, **common,
        )["value"]  # fmt: skip
        accuracy = statistics.mean(made["test"])
        say(
            f"{task}, {kind}, seed {seed}, rate {rate}, {pooling}: validation {made['validation']:.1%}, "
            f"test {accuracy:.1%}, {made['seconds']:.0f} s"
        )
        return {**made, "job": job}

    rates = common["settings"]["finetuning"]["rates"]
    jobs = [
        (kind, task, 0, rate, pooling)
        for task in TASKS
        for kind in EACH
        for rate in rates
        for pooling in CLASSIFIERS[kind]
    ]
    scores: Scores = {}
    loadable: dict[tuple[str, str], dict[str, Any]] = {}
    for made in context.together(work, jobs, STEPS):
        kind, task, pooling = made["job"][0], made["job"][1], made["job"][4]
        best = scores.setdefault((kind, task), [made])
        if made["validation"] > best[0]["validation"]:
            best[0] = made
        if pooling == CLASSIFIERS[kind][0]:
            loadable[kind, task] = max(made, loadable.get((kind, task), made), key=lambda each: each["validation"])
    others = [
        (kind, task, seed, *best[0]["job"][3:])
        for (kind, task), best in scores.items()
        for seed in range(1, context.seeds)
    ]
    for made in context.together(work, others, STEPS):
        scores[made["job"][0], made["job"][1]].append(made)
    return scores, {kind: {task: _tuned(loadable[kind, task], models) for task in TASKS} for kind in EACH}


def _tuned(made: dict[str, Any], models: dict[str, list[dict[str, Any]]]) -> str:
    """The folder of a fine-tuned model of the first seed."""
    kind, task, seed, rate, pooling = made["job"]
    weights = models[kind][seed]["weights"].removesuffix(".safetensors")
    return f"tuned-{weights}-{task}-{rate}-{pooling}"


def _pretraining_figures(models: dict[str, list[dict[str, Any]]]) -> dict[str, Figure]:
    losses = {kind: [made["loss"] for made in reports] for kind, reports in models.items()}
    bert, ours = (statistics.mean(losses[kind]) for kind in KINDS)
    sizes = {kind: reports[0]["parameters"] for kind, reports in models.items()}
    return {
        "masked_lm_loss": Figure(
            value=ours,
            unit="nats",
            baseline=bert,
            baseline_name="BERT",
            note=f"smaller is better. Of masked tokens that are kept apart; seeds {_listed(losses[KINDS[1]])}, BERT "
            f"{_listed(losses[KINDS[0]])}; {sizes[KINDS[1]]:,} weights, BERT {sizes[KINDS[0]]:,}; learning rates "
            f"{models[KINDS[1]][0]['rate']} and {models[KINDS[0]][0]['rate']}",
        )
    }


def _score_figures(scores: Scores) -> dict[str, Figure]:
    figures = {}
    for task in TASKS:
        bert, ours = ([100 * statistics.mean(made["test"]) for made in scores[kind, task]] for kind in KINDS)
        how = [_how(scores[kind, task][0]) for kind in KINDS]
        figures[f"score_{task.replace('-', '_')}"] = Figure(
            value=statistics.mean(ours),
            unit="% right",
            baseline=statistics.mean(bert),
            baseline_name="BERT",
            note=f"bigger is better. {len(scores[KINDS[1], task][0]['test']):,} test texts; seeds {_listed(ours)}, "
            f"BERT {_listed(bert)}; fine-tuned with {how[1]}, BERT {how[0]}",
        )
    for name, kind, promised, words in (
        ("mean_score_gain", KINDS[1], 3.2, "DeepSeek-Base"),
        ("mean_score_gain_shallow", SHALLOW, 0.0, "a DeepSeek-Base with half of the layers"),
    ):
        low, mean, high = mean_gain(scores, kind)
        figures[name] = Figure(
            value=mean,
            unit="points",
            baseline=promised,
            baseline_name="promised: at least" if promised else "as accurate as BERT",
            note=f"mean over four tasks of what {words} has more than BERT; 95% interval {low:.2f} to {high:.2f}, by "
            "drawing seeds and test texts with replacement",
        )
    return figures


def mean_gain(scores: Scores, kind: str) -> tuple[float, float, float]:
    """The lower end, the mean and the upper end of a kind's gain over BERT in points.

    A bootstrap over seeds and test texts.
    """
    import numpy as np

    draw = np.random.default_rng(0)
    gains, spread = [], np.zeros(DRAWS)
    for task in TASKS:
        right = [np.array([made["test"] for made in scores[each, task]], dtype=float) for each in ("bert", kind)]
        seeds, texts = right[0].shape
        gains.append(100 * (right[1].mean() - right[0].mean()))
        # one text's share over seeds, drawn anew: of few seeds every combination is drawn many times
        for at in range(DRAWS):
            rows = [each[draw.integers(0, seeds, seeds)].mean(0) for each in right]
            counted = draw.multinomial(texts, np.full(texts, 1 / texts))
            spread[at] += 100 * float((rows[1] - rows[0]) @ counted) / texts / len(TASKS)
    low, high = np.quantile(spread, [0.025, 0.975])
    return float(low), statistics.mean(gains), float(high)


def _long_figures(long: dict[str, float]) -> dict[str, Figure]:
    return {
        "long_text_accuracy_sparse": Figure(
            value=100 * long["sparse"],
            unit="% right",
            baseline=100 * long["dense"],
            baseline_name="dense attention, the same weights",
            note=f"bigger is better. {long['texts']:.0f} test texts of {LONG_TASK} longer than {LONGER_THAN:,} tokens, "
            "read whole",
        )
    }


def _how(made: dict[str, Any]) -> str:
    return f"rate {made['job'][3]}, {made['job'][4]}"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)

"""Cost at BERT-base size: seconds of a step and peak memory, on real text lengths, with random weights.

Movie sentences cut to 64 tokens (32 rows a step) and newsgroup posts cut to 256 (8 rows a step). What ours computes
before its first step grows with the rows and is paid once, so times are compared over three epochs of all rows:
``rows / steps``-fold what came first, and the mean step times the steps.
"""

from __future__ import annotations

import random
from typing import Any

from benchmarks.harness import Figure, Worker, say
from benchmarks.lora_parts.bert_base import bert_base
from benchmarks.lora_parts.contest import (
    FULL,
    LIMIT_S,
    OURS,
    PEFT,
    PEFT_BF16,
    STEPS,
    Cell,
    contest,
    median_of,
    tensor_peaks,
    times_faster,
)
from benchmarks.lora_parts.contestants import OUR_RECIPE, Job, Run
from benchmarks.lora_parts.context import Context
from benchmarks.lora_parts.rows import prepared, recipe_for_lengths, written

EPOCHS = 3
CELLS = (("hutto-movie-reviews", 64, 32, 10, 8), ("20-newsgroups", 256, 8, 10, 2))
"""Data set, tokens, rows a step, steps, rows that ours runs at once: about 500 tokens, as fast as more on a CPU."""


def run(context: Context) -> dict[str, Figure]:
    """Memory, share of weights that train, and cost of three epochs."""
    cells = [_cell(context, *cell) for cell in CELLS]
    each = " ".join(f"{cell.name}: {cell.note}." for cell in cells)
    libraries = imported(context)
    say(f"Python, PyTorch, transformers and PEFT alone: {libraries:,.0f} MB")
    return {
        "memory_reduction": Figure(
            value=1 - cells[-1].memory,
            unit="share of full fine-tuning's peak memory saved",
            baseline=0.83,
            baseline_name="promised",
            note=f"bigger is better; high-water mark of the whole process, Python and libraries with it, which alone "
            f"take {libraries:,.0f} MB: {'; '.join(f'{c.name}: {1 - c.memory:.1%}' for c in cells)}. The value is "
            f"that of the longer texts. {each}",
        ),
        "memory_reduction_in_tensors": Figure(
            value=median_of([1 - cell.tensors for cell in cells]),
            unit="share of full fine-tuning's memory in tensors saved",
            baseline=0.83,
            baseline_name="promised",
            note="bigger is better; the most bytes of tensors that a training step works with, without the process "
            f"around it: {'; '.join(f'{c.name}: {1 - c.tensors:.1%}' for c in cells)}.",
        ),
        "trainable_reduction": Figure(
            value=min(1 - cell.trainable for cell in cells),
            unit="share of the weights that does not train",
            baseline=0.99,
            baseline_name="expected; 0.9 promised",
            note="bigger is better; trained weights of ours (adapter and head) divided by the base's, the worst cell.",
        ),
        "cost_vs_full_fp32": times_faster(cells, "time of three epochs at BERT-base size", peft=False),
        "cost_vs_plain_peft": times_faster(cells, "time of three epochs at BERT-base size", peft=True),
    }


def imported(context: Context) -> float:
    """Peak memory in MB of a process that loads the model and does nothing: the libraries, and no weights read."""
    with Worker(STEPS) as worker:
        base = bert_base(context.folder, quick=context.quick)
        return float(worker.run("load", limit_s=LIMIT_S, base=base)["peak_mb"])


def our_recipe(context: Context, micro_batch: int) -> dict[str, Any]:
    """:data:`OUR_RECIPE` with the rows that run at once, or the same for a tiny model."""
    adapter = {**OUR_RECIPE["adapter"], **({"layers": [2, 3]} if context.quick else {})}
    return {**OUR_RECIPE, "adapter": adapter, "training": {**OUR_RECIPE["training"], "micro_batch_size": micro_batch}}


def _cell(context: Context, source: str, tokens: int, batch: int, steps: int, micro_batch: int) -> Cell:
    steps = context.pick(steps, 2)
    rows = prepared(recipe_for_lengths(source), context)
    total = len(rows.train)
    sample = random.Random(0).sample(rows.train, min(total, batch * steps))  # noqa: S311 - a sample, not a secret
    folder = context.workspace(f"cost-{source}")
    job = Job(
        base=bert_base(context.folder, quick=context.quick),
        train=written(sample, folder / "train.jsonl"),
        max_length=tokens,
        batch_size=batch,
        epochs=1,
        recipe=our_recipe(context, micro_batch),
    )
    say(f"cost: BERT-base size, {source} cut to {tokens} tokens, {batch} rows a step, {steps} steps")
    runs = contest(job, context.rounds)
    tensors = tensor_peaks(Job(**{**job.as_arguments(), "max_steps": 3}))
    long_run = {
        name: median_of([_three_epochs(r, total, batch, len(sample)) for r in each]) for name, each in runs.items()
    }
    memory = {name: median_of([r.peak_mb for r in each]) for name, each in runs.items()}
    say(f"  tensors alone: {', '.join(f'{n} {m:,.0f} MB' for n, m in tensors.items())}")
    words = "; ".join(
        f"{name}: {median_of([r.step_s for r in runs[name]]):.3g} s a step, {long_run[name] / EPOCHS:,.0f} s an epoch, "
        f"{memory[name]:,.0f} MB ({tensors[name]:,.0f} in tensors)"
        for name in (FULL, PEFT, PEFT_BF16, OURS)
    )
    ours = runs[OURS][0]
    return Cell(
        name=f"BERT-base size, {source} at {tokens} tokens, {batch} rows a step",
        times=long_run[FULL] / long_run[OURS],
        peft_times=long_run[PEFT] / long_run[OURS],
        memory=memory[OURS] / memory[FULL],
        tensors=tensors[OURS] / tensors[FULL],
        trainable=ours.trainable / ours.parameters,
        note=f"{words}; tensors alone {1 - tensors[OURS] / tensors[FULL]:.1%} less; against plain PEFT in bf16 "
        f"{long_run[PEFT_BF16] / long_run[OURS]:.2f} times faster; ours: {ours.settings}; "
        f"an epoch is {total:,} rows, each over {EPOCHS} epochs",
    )


def _three_epochs(run: Run, rows: int, batch: int, measured: int) -> float:
    return run.train_s(EPOCHS * rows / batch, rows / measured)

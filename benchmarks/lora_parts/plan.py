"""How well the planner foretells memory and time: the prediction against the run that follows it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Figure, Worker, say
from benchmarks.lora_parts.bert_base import bert_base
from benchmarks.lora_parts.contest import LIMIT_S, median_of
from benchmarks.lora_parts.context import Context
from benchmarks.lora_parts.rows import prepared, written
from deepseek.recipe import load_recipe

STEPS = "benchmarks.lora_parts.plan_steps"
ADAPTER: dict[str, Any] = {"r": 16, "alpha": 32, "target_modules": ["query_key_value"]}
CASES: tuple[tuple[str, bool, dict[str, Any] | None, int, int, str | None], ...] = (
    ("MiniLM, adapter", False, ADAPTER, 128, 3200, None),
    ("MiniLM, all weights", False, None, 128, 1600, None),
    ("BERT-base size, adapter", True, ADAPTER, 64, 960, None),
    ("BERT-base size, adapter, at most 1.3 GB", True, ADAPTER, 64, 640, "1.3GB"),
    ("BERT-base size, all weights", True, None, 64, 320, None),
)
"""Name, BERT-base or MiniLM, adapter, tokens, rows, memory budget."""
BATCH = 32


@dataclass(frozen=True)
class Turn:
    """Foretold over measured, and both in words."""

    memory: float
    seconds: float
    words: str


def run(context: Context) -> dict[str, Figure]:
    """The worst errors over the cases."""
    rows = prepared(load_recipe("quickstart"), context).train
    folder = context.workspace("plan")
    memory, time, words = [], [], []
    for number, (name, large, adapter, tokens, count, budget) in enumerate(CASES):
        sample = random.Random(number).sample(rows, min(len(rows), context.pick(count, 40)))  # noqa: S311 - a sample
        recipe = {
            "task": {"name": "text-classification", "max_length": tokens},
            "adapter": adapter,
            "training": {"epochs": 1, "batch_size": BATCH},
        }
        arguments = {
            "base": bert_base(context.folder, quick=context.quick) if large else "all-minilm-l6-v2",
            "train": written(sample, folder / f"{number}.jsonl"),
            "recipe": recipe,
            "memory": None if context.quick else budget,
        }
        turns = [_turn(arguments) for _ in range(context.rounds)]
        memory.append(abs(median_of(turn.memory for turn in turns) - 1))
        time.append(abs(median_of(turn.seconds for turn in turns) - 1))
        words.append(f"{name}, {len(sample):,} rows cut to {tokens} tokens {'; again: '.join(t.words for t in turns)}")
        say(f"  {words[-1]}")
    often = f", each {context.rounds} times, of which the median counts" if context.rounds > 1 else ""
    note = f"smaller is better; the worst of {len(CASES)} runs{often}. {'. '.join(words)}."
    unit = "relative error"
    return {
        "plan_memory_error": Figure(value=max(memory), unit=unit, baseline=0.2, baseline_name="promised", note=note),
        "plan_time_error": Figure(value=max(time), unit=unit, baseline=0.2, baseline_name="promised", note=note),
    }


def _turn(arguments: dict[str, Any]) -> Turn:
    with Worker(STEPS) as worker:
        planned = worker.run("predict", limit_s=LIMIT_S, **arguments)
        done = worker.run("train", limit_s=LIMIT_S)
    said, seconds, peak = planned["value"], done["value"]["seconds"], done["peak_mb"]
    return Turn(
        said["memory_mb"] / peak,
        said["seconds"] / seconds,
        f"({said['settings']}): {said['memory_mb']:,.0f} MB foretold, {peak:,.0f} measured; {said['seconds']:.1f} s "
        f"foretold, {seconds:.1f} measured; planned in {planned['seconds']:.0f} s",
    )

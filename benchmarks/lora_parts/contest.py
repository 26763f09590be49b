"""Runs the contestants in turn, each in a fresh process on the same cores."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, Worker, commit, in_turn, say
from benchmarks.lora_parts.contestants import Job, Run
from deepseek.artifacts.cache import write_text

STEPS = "benchmarks.lora_parts.contestant_steps"
FULL, PEFT, PEFT_BF16, OURS = "full fp32", "plain PEFT fp32", "plain PEFT bf16", "ours"
ALL = (FULL, PEFT, PEFT_BF16, OURS)
LIMIT_S = 3600.0


def contest(
    job: Job, rounds: int, *, every: dict[str, int] | None = None, kept: Path | None = None
) -> dict[str, list[Run]]:
    """Each contestant ``rounds`` times, in changing order, with other seeds in other rounds.

    Args:
        every: steps between two copies of each contestant's weights.
        kept: a file of finished runs; what is there of the same job and commit is taken as it is, so that an
            interrupted benchmark goes on where it was.
    """
    runs: dict[str, list[Run]] = {name: [] for name in ALL}
    replies: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.is_file() else {}
    for turn in range(rounds):
        for name in in_turn(ALL, turn):
            arguments = {**job.as_arguments(), "seed": job.seed + turn}
            extra: dict[str, Any] = {"every": every[name]} if every else {}
            key = json.dumps([commit(), name, extra, arguments], sort_keys=True)
            if key not in replies:
                with Worker(STEPS) as worker:
                    replies[key] = worker.run("train", limit_s=LIMIT_S, contestant=name, **extra, **arguments)
                if kept:
                    write_text(kept, json.dumps(replies))
            run = Run.of(replies[key])
            runs[name].append(run)
            reached = f", accuracy {run.points[-1][1]:.2%}" if run.points else ""
            say(
                f"  {name}: {run.seconds:.1f} s, {run.steps} steps of {run.mean_step_s:.3f} s, "
                f"{run.peak_mb:,.0f} MB{reached}"
            )
    return runs


def tensor_peaks(job: Job) -> dict[str, float]:
    """The memory in tensors alone, in MB, of each contestant."""
    peaks = {}
    for name in ALL:
        with Worker(STEPS) as worker:
            peaks[name] = float(
                worker.run("tensor_peak", limit_s=LIMIT_S, contestant=name, **job.as_arguments())["value"]
            )
    return peaks


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One comparison of ours with full fine-tuning and with plain PEFT in float32.

    Attributes:
        times, peft_times: how many times faster ours is.
        memory: ours divided by full's, 1 for the same.
        tensors: the same of tensors alone; 0 where it was not measured.
        trainable: trained weights divided by the base's.
        note: all contestants' figures, in words.
    """

    name: str
    times: float
    peft_times: float
    memory: float
    trainable: float
    note: str
    tensors: float = 0.0


def median_of(values: Iterable[float]) -> float:
    """Median."""
    return float(statistics.median(values))


def times_faster(cells: Sequence[Cell], what: str, *, peft: bool) -> Figure:
    """The median over the cells of how many times faster ours is; the note has every cell."""
    values = [cell.peft_times if peft else cell.times for cell in cells]
    each = "; ".join(f"{cell.name}: {value:.2f}" for cell, value in zip(cells, values, strict=True))
    return Figure(
        value=median_of(values),
        unit="times faster",
        baseline=1.0,
        baseline_name="plain PEFT + Trainer, float32" if peft else "full fine-tuning, float32, Trainer",
        note=f"bigger is better; {what}. Median of {each}.",
    )

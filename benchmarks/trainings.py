"""What the parts of a benchmark that trains models are told, and how their trainings share the cores."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.harness import CORES, THREADS, Figure, Worker, result_file
from benchmarks.parts import chosen_parts, run_parts

Job = TypeVar("Job")
Made = TypeVar("Made")
VERSIONS = ("deepseek", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class Context:
    """Settings of a run.

    Attributes:
        folder: where finished work is kept: a run that was interrupted goes on from there.
        rounds: turns of each contestant.
        seeds: trainings of each model.
        quick: small sizes, to see that everything runs.
        jobs: trainings at a time, each on a thread of its own; speed is measured alone, on all threads.
    """

    folder: Path
    rounds: int
    seeds: int
    quick: bool
    jobs: int

    def together(self, work: Callable[[Worker, Job], Made], jobs: Sequence[Job], module: str) -> list[Made]:
        """Do some jobs, several at a time, each in a process of its own; what they made, in order."""

        def do(job: Job) -> Made:
            with Worker(module, env=dict.fromkeys(THREADS, "1")) as worker:
                return work(worker, job)

        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(do, jobs))


def run_trainings(name: str, parts: Mapping[str, Callable[[Context], dict[str, Figure]]], description: str) -> Path:
    """Read the command line of a benchmark, run the parts that it names, and leave their figures in a file."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help=f"parts, with commas between: {', '.join(parts)}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant (default 3)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each model (default 3)")
    parser.add_argument("--jobs", type=int, default=CORES, help=f"trainings at a time (default {CORES})")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--workspace", type=Path, help="a folder to keep finished work in")
    parser.add_argument("--output", type=Path, help=f"the result file (default: benchmarks/results/{name}.json)")
    options = parser.parse_args()
    chosen = chosen_parts(parser, options, parts)
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as own:
        folder = options.workspace.absolute() if options.workspace else Path(own)
        folder = folder / "quick" if options.quick else folder
        folder.mkdir(parents=True, exist_ok=True)
        context = Context(
            folder=folder, rounds=options.rounds, seeds=options.seeds, quick=options.quick, jobs=options.jobs
        )
        some = {part: parts[part] for part in chosen}
        run_parts(name, some, context, versions=VERSIONS, pins={}, target=options.output)
    return options.output or result_file(name)

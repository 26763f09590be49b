"""Claims of inference on a CPU: encoders and text generation, each against other ways to run them.

    make bench NAME=inference ARGS="--only encoders"              about 25 minutes on two quiet cores
    make bench NAME=inference ARGS="--only generation"            about 25 minutes; --rounds 1: 15
    make bench NAME=inference ARGS="--only encoders --workspace w"  keeps models and finished cells in the folder w
    make bench NAME=inference ARGS="--quick --output x"           a smoke test; its figures mean nothing

Peers are installed at their pinned versions in an environment of their own for each part, once (2 GB each). Every
contestant is a process on the same two cores, and they take turns. Models are made before: for encoders MiniLM is
trained, then everything is quantised and exported, about 20 minutes the first time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import peers
from benchmarks.harness import Figure
from benchmarks.inference_parts import encoders, generation
from benchmarks.inference_parts.context import Context
from benchmarks.parts import chosen_parts, run_parts

PARTS: dict[str, Callable[[Context], dict[str, Figure]]] = {"encoders": encoders.run, "generation": generation.run}
PINS = {
    "encoders": peers.versions(*peers.ENCODERS),
    "generation": peers.versions(*peers.GENERATION, *peers.LLAMA_CPP[:1]),
}
VERSIONS = ("deepseek", "torch", "transformers", "openvino", "nncf")


def main() -> None:
    """Run the parts and leave their figures in results/inference.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help=f"parts, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant in a cell (default 5)")
    parser.add_argument("--quick", action="store_true", help="tiny models, to see that everything runs")
    parser.add_argument("--workspace", type=Path, help="a folder to keep models, exports and finished cells in")
    parser.add_argument("--output", type=Path, help="the result file (default: benchmarks/results/inference.json)")
    options = parser.parse_args()
    chosen = chosen_parts(parser, options, PARTS)
    with tempfile.TemporaryDirectory(prefix="bench-inference-") as own:
        folder = options.workspace.absolute() if options.workspace else Path(own)
        folder = folder / "quick" if options.quick else folder  # tiny models must not pass for the others
        context = Context(folder=folder, rounds=options.rounds, quick=options.quick)
        parts = {part: PARTS[part] for part in chosen}
        run_parts("inference", parts, context, versions=VERSIONS, pins=PINS, target=options.output)


if __name__ == "__main__":
    main()

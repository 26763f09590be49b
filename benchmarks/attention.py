"""Claims of DeepSeek-Base's attention on a CPU: speed over length, perplexity by position encoding, retrieval.

make bench NAME=attention ARGS="--only speed"       both attentions in turn, up to 131,072 tokens
make bench NAME=attention ARGS="--only quality"     15 small trainings and their readings; give it a workspace
make bench NAME=attention ARGS="--only retrieval"   small trainings, then questions in long texts
make bench NAME=attention ARGS="--workspace w"      keeps finished cells and models in the folder w
make bench NAME=attention ARGS="--quick --output x" a smoke test; its figures mean nothing
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.attention_parts import page, quality, retrieval, speed
from benchmarks.harness import Figure, result_file
from benchmarks.trainings import Context, run_trainings

PARTS: dict[str, Callable[[Context], dict[str, Figure]]] = {
    "speed": speed.run,
    "quality": quality.run,
    "retrieval": retrieval.run,
}


if __name__ == "__main__":
    written = run_trainings("attention", PARTS, __doc__ or "")
    if written == result_file("attention"):  # another file is nobody's page
        page.write(written)

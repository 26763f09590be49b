"""Claims of DeepSeek-Base as an encoder: score against a BERT of its size, latency by length, int8.

make bench NAME=pretrain ARGS="--only latency"      both models in turn, of BERT-base's size, minutes
make bench NAME=pretrain ARGS="--only score"        pre-trains and fine-tunes both, some hours; give it a workspace
make bench NAME=pretrain ARGS="--only int8"         reads what score left in the workspace
make bench NAME=pretrain ARGS="--workspace w"       keeps finished models and answers in the folder w
make bench NAME=pretrain ARGS="--quick --output x"  a smoke test; its figures mean nothing
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import Figure
from benchmarks.pretrain_parts import int8, latency, score
from benchmarks.trainings import Context, run_trainings

PARTS: dict[str, Callable[[Context], dict[str, Figure]]] = {
    "latency": latency.run,
    "score": score.run,
    "int8": int8.run,
}


if __name__ == "__main__":
    run_trainings("pretrain", PARTS, __doc__ or "")

"""The Chinese base: ``minilm-l6-chinese`` after masked language modelling on the training reviews, without labels.

As it comes from the dictionaries, its embeddings know what words mean but not how reviews are written, and an adapter
does not train embeddings. No held-out review is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Worker, say
from benchmarks.lora_parts.context import Context
from benchmarks.lora_parts.rows import Prepared, written
from deepseek.recipe import Recipe

STEPS = "benchmarks.lora_parts.accuracy_steps"
LIMIT_S = 3600.0
PRETRAINING: dict[str, Any] = {
    "task": {"name": "masked-language-modelling", "max_length": 128},
    "training": {"epochs": 5, "batch_size": 32, "learning_rate": 5e-4},
}


@dataclass(frozen=True)
class ChineseBase:
    """Where it lies and what it took."""

    folder: str
    seconds: float


def chinese_base(context: Context, recipe: Recipe, rows: Prepared) -> ChineseBase:
    """Pre-train it on the training rows; once a workspace."""
    home = context.workspace("chinese-base")
    done = home / "seconds"
    if not done.is_file():
        train = written(rows.train, home / "train.jsonl")
        with Worker(STEPS) as worker:
            reply = worker.run(
                "pretrain", limit_s=LIMIT_S, recipe=PRETRAINING, base=recipe.model.base, train=train,
                target=str(home / "model"),
            )  # fmt: skip
        say(f"pre-trained the Chinese base in {reply['seconds']:.0f} s")
        Path(done).write_text(str(reply["seconds"]), encoding="utf-8")
    return ChineseBase(str(home / "model"), float(done.read_text(encoding="utf-8")))

"""The Chinese base after its recipe's pre-training on the training reviews, made once for all that start from it.

As it comes from the dictionaries, its embeddings know what words mean but not how reviews are written, and an adapter
does not train embeddings. No held-out review is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.harness import Worker, say
from benchmarks.lora_parts.context import Context
from benchmarks.lora_parts.rows import Prepared, written
from deepseek.recipe import Recipe

STEPS = "benchmarks.lora_parts.accuracy_steps"
LIMIT_S = 3600.0


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
            whole = recipe.model_dump(mode="json")
            reply = worker.run("pretrain", limit_s=LIMIT_S, recipe=whole, train=train, folder=str(home))
        say(f"pre-trained the Chinese base in {reply['seconds']:.0f} s")
        done.write_text(str(reply["seconds"]), encoding="utf-8")
    return ChineseBase(str(home / "pretrained"), float(done.read_text(encoding="utf-8")))

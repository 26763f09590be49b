"""What int8 costs and gives: accuracy of the fine-tuned models, and speed beside BERT's and DeBERTa's.

Dynamic quantisation by ONNX Runtime, weights by channel, as ``deepseek export`` makes it. DeBERTa is here because its
relative positions are known to gain little from int8.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.harness import Figure, Worker, alternate, say
from benchmarks.pretrain_parts.corpora import TASKS
from benchmarks.pretrain_parts.latency import QUICK as QUICK_SIZE
from benchmarks.pretrain_parts.latency import SIZE
from benchmarks.pretrain_parts.models import KINDS
from benchmarks.trainings import Context

STEPS = "benchmarks.pretrain_parts.int8_steps"
SPEED_KINDS = ("deepseek-base", "bert", "deberta-v2")
LENGTHS = (128, 512)


def run(context: Context) -> dict[str, Figure]:
    """Accuracy first, of the models that the part ``score`` left in the context's folder; then speed."""
    return {**_accuracy(context), **_speed(context)}


def _accuracy(context: Context) -> dict[str, Figure]:
    folder = context.folder / "score"
    chosen = folder / "chosen.json"
    if not chosen.is_file():
        raise SystemExit("int8 reads the models that the part score makes: run --only score,int8 with one --workspace")
    tuned = json.loads(chosen.read_text(encoding="utf-8"))["tuned"]
    drops: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        for task, name in tuned[kind].items():
            with Worker(STEPS) as worker:
                value: dict[str, Any] = worker.run(
                    "accuracy", limit_s=3_600, folder=str(folder), tuned=name, task=task, kind=kind
                )["value"]
            say(f"{task}, {kind}: float32 {value['float32']:.2%}, int8 {value['int8']:.2%}")
            drops.setdefault(kind, {})[task] = 100 * (value["float32"] - value["int8"])
    bert, ours = (list(drops[kind].values()) for kind in KINDS)
    return {
        "int8_accuracy_drop": Figure(
            value=statistics.mean(ours),
            unit="points",
            baseline=statistics.mean(bert),
            baseline_name="BERT",
            note="smaller is better. Mean over tasks of float32's less int8's: "
            + ", ".join(f"{task} {drops['deepseek-base'][task]:.2f}" for task in TASKS),
        )
    }


def _speed(context: Context) -> dict[str, Figure]:
    size = QUICK_SIZE if context.quick else SIZE
    folder = context.folder / "int8"
    folder.mkdir(exist_ok=True)
    figures = {}
    for tokens in LENGTHS:
        gains = {}
        for kind in SPEED_KINDS:
            with Worker(STEPS) as plain, Worker(STEPS) as int8:
                common = {"folder": str(folder), "kind": kind, "size": size, "tokens": tokens}
                measured = alternate(
                    {
                        "float32": lambda common=common, plain=plain: plain.run(
                            "speed", limit_s=1_800, precision="float32", **common
                        ),
                        "int8": lambda common=common, int8=int8: int8.run(
                            "speed", limit_s=1_800, precision="int8", **common
                        ),
                    },
                    2 * context.rounds,
                )
            gains[kind] = measured["float32"].median / measured["int8"].median
            say(f"{kind}, {tokens} tokens: int8 {gains[kind]:.2f} times as fast")
        figures[f"int8_speedup_{tokens}"] = Figure(
            value=gains["deepseek-base"],
            unit="times faster",
            baseline=gains["bert"],
            baseline_name="BERT",
            note=f"bigger is better. int8 against float32 in ONNX Runtime, one text of {tokens} tokens, 12 layers of "
            f"768; DeBERTa (v3-base's shape) {gains['deberta-v2']:.2f}",
        )
    return figures

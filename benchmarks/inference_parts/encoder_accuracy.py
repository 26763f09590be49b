"""What the int8 copy costs in accuracy: held-out movie sentences in float32 and through ``auto``."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.harness import Figure, Worker, say
from benchmarks.inference_parts.context import Context
from benchmarks.inference_parts.encoder_contest import LIMIT_S, OUR_STEPS
from benchmarks.inference_parts.encoder_models import Encoder
from deepseek.bundles import Bundle


def run(context: Context, encoder: Encoder, auto: str) -> dict[str, Figure]:
    """The figure ``encoder_accuracy_drop``, in points; ``auto`` says in words what is compared with float32.

    Where ``auto`` did not take the copy, the copy is compared too, in the note.
    """
    file = context.workspace("inputs") / "held-out.jsonl"
    file.write_text("\n".join(json.dumps({"text": row["text"]}) for row in encoder.held_out), encoding="utf-8")
    truth = [row["label"] for row in encoder.held_out]
    copies = Bundle.open(encoder.folder).manifest.compiled
    runs = {"float32": {"runtime": "torch", "dtype": "float32"}, "auto": {}}
    for copy in copies:
        runtime, _, dtype = copy.rpartition("-")
        runs[copy] = {"runtime": runtime, "dtype": dtype}
    found: dict[str, list[str]] = {}
    for name, settings in runs.items():
        with Worker(OUR_STEPS) as worker:
            worker.run("open_model", limit_s=LIMIT_S, bundle=str(encoder.folder), **settings)
            found[name] = worker.run("labels", limit_s=LIMIT_S, file=str(file))["value"]
    right = {name: 100 * _share(labels, truth) for name, labels in found.items()}
    say(f"accuracy: {', '.join(f'{name} {value:.2f}%' for name, value in right.items())}")
    each = ", ".join(
        f"{right[copy]:.2f}% by {copy} ({record.reference:.4f} to {record.value:.4f} on the {record.rows:,} rows that "
        "it was accepted by)"
        for copy, record in copies.items()
    )
    figure = Figure(
        value=right["float32"] - right["auto"],
        unit="points",
        baseline=right["float32"],
        baseline_name="accuracy in float32, %",
        note=f"smaller is better; promised at most 0.5. {len(truth):,} held-out movie sentences: {right['auto']:.2f}% "
        f"through auto ({auto}), {right['float32']:.2f}% in float32; auto gives "
        f"{1 - _share(found['auto'], found['float32']):.2%} of them another label than float32. {each}.",
    )
    return {"encoder_accuracy_drop": figure}


def _share(labels: list[Any], truth: list[Any]) -> float:
    return sum(a == b for a, b in zip(labels, truth, strict=True)) / len(truth)

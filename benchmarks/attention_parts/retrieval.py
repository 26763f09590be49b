"""Whether the gate finds what dense attention finds: recall and needles in texts much longer than training's."""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.harness import Figure, Worker, say
from benchmarks.trainings import Context

STEPS = "benchmarks.attention_parts.retrieval_steps"
SETTINGS: dict[str, Any] = {
    "model": {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 256,
        "pad_token_id": None,
        "attention_mode": "dense",
        "gate_loss_weight": 0.3,
        "gate_loss_queries": 128,
    },
    "steps": 3_000,
    "rate": 2e-3,
    "batch_tokens": 4_096,
    "repeat_until": 0.1,
    "stages": [
        [0.16, 64, 4, 6],
        [0.22, 128, 8, 12],
        [0.3, 256, 12, 16],
        [0.45, 512, 16, 25],
        [0.65, 1_024, 16, 51],
        [0.85, 2_048, 16, 102],
        [1.01, 4_096, 16, 204],
    ],
}
"""``stages``: until which share of the steps, tokens of a text, pairs in it, questions at its end."""
QUICK = {**SETTINGS, "steps": 4, "stages": [[1.01, 512, 16, 24]]}
LENGTHS = (512, 1_024, 2_048, 4_096, 8_192, 16_384)
KINDS = {"recall": {"pairs": 16, "questions": 24, "texts": 12}, "needle": {"pairs": 1, "questions": 1, "texts": 150}}
FEW = 30
"""Texts at most that dense attention reads where one takes it many seconds."""


def run(context: Context) -> dict[str, Figure]:
    """Train, then ask at all lengths, dense and sparse with the same weights."""
    settings = QUICK if context.quick else SETTINGS
    folder = context.folder / "retrieval"
    folder.mkdir(exist_ok=True)
    found: dict[tuple[str, int, str], list[float]] = {}

    def work(worker: Worker, seed: int) -> dict[tuple[str, int, str], float]:
        common = {"seed": seed, "folder": str(folder), "settings": settings}
        made = worker.run("train", limit_s=7_200, **common)["value"]
        say(f"seed {seed}: {made['accuracy']:.1%} right in training, {made['seconds']:.0f} s")
        shares = {}
        for kind, options in KINDS.items():
            for tokens in LENGTHS[:2] if context.quick else LENGTHS:
                for mode in ("dense", "sparse"):
                    kept = folder / f"answers-{seed}-{kind}-{tokens}-{mode}.json"
                    if not kept.is_file():
                        most = 2 if context.quick else FEW if mode == "dense" and tokens > 4_096 else options["texts"]
                        asked = {**options, "texts": min(options["texts"], most)}
                        answer = worker.run("ask", limit_s=3_600, tokens=tokens, mode=mode, **asked, **common)
                        kept.write_text(json.dumps(answer["value"]), encoding="utf-8")
                    share = json.loads(kept.read_text(encoding="utf-8"))
                    say(f"  seed {seed}, {kind}, {tokens:,} tokens, {mode}: {share:.1%}")
                    shares[kind, tokens, mode] = share
        return shares

    for shares in context.together(work, range(context.seeds), STEPS):
        for key, share in shares.items():
            found.setdefault(key, []).append(share)
    figures = {}
    for (kind, tokens, mode), shares in found.items():
        if mode == "sparse":
            name = "needle_accuracy_16k" if (kind, tokens) == ("needle", 16_384) else f"{kind}_accuracy_{tokens}"
            figures[name] = Figure(
                value=statistics.mean(shares),
                unit="share",
                baseline=statistics.mean(found[kind, tokens, "dense"]),
                baseline_name="dense attention, the same weights",
                note=f"bigger is better. {tokens:,} tokens, trained dense to 4,096; the gate chooses; seeds "
                + ", ".join(f"{share:.3f}" for share in shares),
            )
    return figures

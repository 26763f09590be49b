"""Language models that differ in their positions alone: equal sizes, tokens and steps, several seeds, one corpus.

Trained on texts of 512 tokens, read at 512 to 8,192. ``absolute`` has no vector for places beyond 512 and is not read
there. Ours is read dense and sparse with the same weights. Models, reports and readings are kept in the context's
folder, so that a run that was interrupted goes on.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.attention_parts.peer_positions import KINDS
from benchmarks.harness import Figure, Worker, say
from benchmarks.trainings import Context

CORPUS = "brown"
STEPS = "benchmarks.attention_parts.quality_steps"
VOCABULARY = 4_096
MODEL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 336,
    "pad_token_id": None,
    "attention_mode": "dense",
}
SETTINGS: dict[str, Any] = {
    "model": MODEL, "tokens": 512, "batch": 8, "steps": 600, "rate": 2e-3, "longest": 8_192,
}  # fmt: skip
QUICK: dict[str, Any] = {
    **SETTINGS,
    "model": {**MODEL, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32},
    "steps": 3,
}
WINDOWS = (512, 1_024, 2_048, 4_096, 8_192)


def run(context: Context) -> dict[str, Figure]:
    """Train and read all models."""
    settings = QUICK if context.quick else SETTINGS
    folder = context.folder / "quality"
    folder.mkdir(exist_ok=True)
    _write_tokens(folder, context.quick)
    found: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    sizes = {}

    def work(worker: Worker, job: tuple[int, str]) -> tuple[int, dict[tuple[str, str, int], dict[str, float]]]:
        seed, kind = job
        common = {"kind": kind, "seed": seed, "folder": str(folder), "settings": settings}
        made = worker.run("train", limit_s=7_200, **common)["value"]
        say(f"{kind}, seed {seed}: loss {made['loss']:.3f}, {made['seconds']:.0f} s")
        readings = {
            (kind, mode, tokens): _kept_reading(worker, folder, common, tokens, mode)
            for tokens, mode in _readings(kind, settings["tokens"])
        }
        return made["parameters"], readings

    jobs = [(seed, kind) for seed in range(context.seeds) for kind in ("ours", *KINDS)]
    for (_, kind), (weights, readings) in zip(jobs, context.together(work, jobs, STEPS), strict=True):
        sizes[kind] = weights
        for key, reading in readings.items():
            found.setdefault(key, []).append(reading)
    return _figures(found, sizes)


def _readings(kind: str, trained: int) -> Iterator[tuple[int, str]]:
    for tokens in WINDOWS:
        if kind == "absolute" and tokens > trained:
            continue
        yield tokens, "dense"
        if kind == "ours":
            yield tokens, "sparse"


def _kept_reading(worker: Worker, folder: Path, common: dict[str, Any], tokens: int, mode: str) -> dict[str, float]:
    kept = folder / f"reading-{common['kind']}-{common['seed']}-{tokens}-{mode}.json"
    if not kept.is_file():
        value = worker.run("perplexity", limit_s=3_600, tokens=tokens, mode=mode, **common)["value"]
        kept.write_text(json.dumps(value), encoding="utf-8")
    reading: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
    say(f"  {common['kind']}, seed {common['seed']}, {tokens:,} tokens, {mode}: perplexity {reading['perplexity']:.2f}")
    return reading


def _figures(found: dict[tuple[str, str, int], list[dict[str, float]]], sizes: dict[str, int]) -> dict[str, Figure]:
    figures = {}
    plain = found["rope", "dense", 512]
    for (kind, mode, tokens), readings in found.items():
        values = [reading["perplexity"] for reading in readings]
        name = f"perplexity_{kind}{'_sparse' if mode == 'sparse' else ''}_{tokens}"
        right = statistics.mean(reading["accuracy"] for reading in readings)
        figures[name] = Figure(
            value=statistics.mean(values),
            unit="perplexity",
            baseline=statistics.mean(r["perplexity"] for r in (found.get(("rope", "dense", tokens)) or plain)),
            baseline_name="RoPE, dense",
            note=f"smaller is better. {mode}, windows of {tokens:,} tokens, trained at 512; seeds {_listed(values)}; "
            f"next token right {right:.1%}; {sizes[kind]:,} weights",
        )
    for name, key, words in (
        ("perplexity_vs_dense", ("sparse", "dense"), "sparse over dense"),
        ("perplexity_growth_8x_length", ("sparse", "sparse"), "4,096 over 512 tokens, sparse"),
    ):
        upper, lower = (8_192, 8_192) if name == "perplexity_vs_dense" else (4_096, 512)
        pairs = zip(found["ours", key[0], upper], found["ours", key[1], lower], strict=True)
        ratios = [a["perplexity"] / b["perplexity"] for a, b in pairs]
        figures[name] = Figure(
            value=statistics.mean(ratios),
            unit="ratio",
            baseline=1.01 if name == "perplexity_vs_dense" else 1.0,
            baseline_name="promised: at most" if name == "perplexity_vs_dense" else "flat",
            note=f"{words}, the same weights and the same {found['ours', 'sparse', upper][0]['tokens']:,.0f} tokens; "
            f"{'at 8,192 tokens; ' if upper == lower else ''}seeds {_listed(ratios)}",
        )
    return figures


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _write_tokens(folder: Path, quick: bool) -> None:
    """The corpus as numbers, ``train.npy`` and ``test.npy``; its own split, its tokenizer trained on the first."""
    if (folder / "test.npy").is_file():
        return
    import numpy as np

    from deepseek.data.datasets import load_dataset_rows
    from deepseek.models import train_tokenizer

    texts: dict[str, list[str]] = {"train": [], "test": []}
    for row in load_dataset_rows(CORPUS):
        if row["split"] in texts:
            texts[row["split"]].append(row["text"])
    if quick:
        texts = {split: some[:40] for split, some in texts.items()}
    tokenizer = train_tokenizer(texts["train"], kind="bpe", vocab_size=VOCABULARY, purpose="decoder")
    end = tokenizer.eos_token_id
    for split, some in texts.items():
        ids = [number for text in some for number in (*tokenizer(text, verbose=False)["input_ids"], end)]
        np.save(folder / f"{split}.npy", np.array(ids, dtype=np.uint16))
        say(f"{split}: {len(some)} texts, {len(ids):,} tokens")

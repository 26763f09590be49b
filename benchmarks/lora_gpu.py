"""LoRA's cost on a GPU: memory and time of a step against full fine-tuning and plain PEFT; the planner's predictions.

    make bench NAME=lora_gpu                            about three minutes on one GPU
    make bench NAME=lora_gpu ARGS="--prepare FOLDER"    texts and tokenizer into a folder, to carry to a machine with
                                                        a GPU and without network; there ARGS="--workspace FOLDER"

On a GPU a process's libraries are not in the device's memory, so what the allocator counts is what training takes.
Models have random weights of BERT-base's and of a 1.1-billion Llama's shape: cost does not depend on what weights are.
All run in one process, one after the other, each with the device's memory empty and the allocator's count at zero.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import Figure, say, write_results
from benchmarks.lora_parts import contestant_steps, plan_steps
from benchmarks.lora_parts.contest import FULL, OURS, PEFT, PEFT_BF16, median_of
from benchmarks.lora_parts.contestants import OUR_RECIPE, TARGETS, Job, Run
from benchmarks.worker import Clock, peak_mb

FULL_BF16 = "full bf16"
ALL = (FULL, FULL_BF16, PEFT, PEFT_BF16, OURS)
ROWS = 2560
BERT = "BERT-base"
LLAMA = "Llama of 1.1 billion"
CELLS = ((BERT, 256, 8, 60, 6), (BERT, 256, 64, 40, 6), (LLAMA, 256, 8, 40, 11))
"""Model, tokens, rows a step, steps (enough to meet lengths again), lower layers that ours computes once."""
PLANS = ((BERT, True, 64), (BERT, False, 32))
"""Model, adapter or all weights, rows a step."""


def main() -> None:
    """Measure on a GPU, or prepare what that needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="only write texts and tokenizer there")
    parser.add_argument("--workspace", type=Path, metavar="FOLDER", help="what --prepare wrote")
    parser.add_argument("--output", type=Path, help="the result file (default: benchmarks/results/lora_gpu.json)")
    parser.add_argument("--quick", action="store_true", help="tiny models, also without a GPU; needs --output")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare)
        return
    import torch

    if not torch.cuda.is_available() and not options.quick:
        sys.exit("lora_gpu needs a GPU that PyTorch sees (torch.cuda.is_available()); nothing was measured")
    if options.quick and options.output is None:
        parser.error("--quick measures nothing of worth; say with --output where its figures may go")
    with tempfile.TemporaryDirectory(prefix="bench-lora-gpu-") as own:
        folder = options.workspace.absolute() if options.workspace else Path(own)
        if not (folder / "rows.jsonl").is_file():
            prepare(folder)
        cells = []
        for each in CELLS:
            cells += [_cell(folder, *each, quick=options.quick)]
            _write(_figures(cells), options.output)
        plans = []
        for plan in PLANS:
            plans += [_planned(folder, *plan, quick=options.quick)]
            _write(_plan_figures(plans), options.output)


def _write(figures: dict[str, Figure], target: Path | None) -> None:
    """After each part, so that what was measured outlives what comes after."""
    for key, figure in figures.items():
        say(f"{key} = {figure.value:.4g} {figure.unit}")
    versions = ("deepseek", "torch", "transformers", "peft", "accelerate")
    write_results("lora_gpu", figures, versions=versions, peers={}, target=target)


def prepare(folder: Path) -> None:
    """Newsgroup posts and MiniLM's tokenizer, which is BERT's."""
    from benchmarks.lora_parts.context import Context
    from benchmarks.lora_parts.rows import prepared, recipe_for_lengths, written
    from deepseek.models import tokenizer_for

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_for("all-minilm-l6-v2").save_pretrained(folder / "tokenizer")
    with tempfile.TemporaryDirectory() as own:
        rows = prepared(recipe_for_lengths("20-newsgroups"), Context(folder=Path(own))).train
    longest = 2000  # characters: more than 256 tokens, and less to carry
    sample = random.Random(0).sample(rows, min(len(rows), ROWS))  # noqa: S311 - a sample, not a secret
    written(({"text": row["text"][:longest], "label": row["label"]} for row in sample), folder / "rows.jsonl")
    say(f"{len(sample):,} rows and a tokenizer in {folder}; next: --workspace {folder}")


def base_of(folder: Path, kind: str, *, quick: bool) -> str:
    """A model of a shape with random weights, written once."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaModel

    target = folder / (("quick-" if quick else "") + kind.replace(" ", "-"))
    if not target.is_dir():
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        torch.manual_seed(0)
        small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64} if quick else {}
        if kind == BERT:
            model: Any = BertModel(BertConfig(**small))
        else:
            shape = {
                "hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
                "intermediate_size": 5632,
            }  # fmt: skip
            small = {**small, "num_key_value_heads": 1} if quick else {}
            config = LlamaConfig(**{**shape, **small}, vocab_size=32000, pad_token_id=tokenizer.pad_token_id)
            with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
                model = LlamaModel(config)
        model.cpu().save_pretrained(target)
        tokenizer.save_pretrained(target)
    return str(target)


def _recipe(kind: str, lower: int) -> dict[str, Any]:
    architecture, layers = ("bert", 12) if kind == BERT else ("llama", 22)
    where = {"target_modules": TARGETS[architecture], "layers": list(range(lower, layers))}
    return {**OUR_RECIPE, "adapter": {**OUR_RECIPE["adapter"], **where}}


def _cell(
    folder: Path, kind: str, tokens: int, batch: int, steps: int, lower: int, *, quick: bool
) -> tuple[str, dict[str, Run]]:
    steps = 3 if quick else steps
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = folder / f"rows-{batch}.jsonl"
    rows.write_text("\n".join(lines[: batch * steps]), encoding="utf-8")
    name = f"{kind}, {batch} rows of at most {tokens} tokens"
    base = base_of(folder, kind, quick=quick)
    say(f"{name}, {steps} steps")
    runs: dict[str, Run] = {}
    for contestant in ALL:
        job = Job(
            base=base, train=str(rows), max_length=tokens, batch_size=batch, epochs=1, recipe=_recipe(kind, lower)
        )
        _empty()
        reply = contestant_steps.train(Clock(), contestant=contestant, **job.as_arguments())
        run = Run.of({"value": reply, "peak_mb": peak_mb()})
        runs[contestant] = run
        say(
            f"  {contestant}: {1000 * run.step_s:.1f} ms a step, {run.before_s:.1f} s before the first, "
            f"{run.device_mb:,.0f} MB on the device"
        )
    return name, runs


def _empty() -> None:
    """Nothing of the last contestant on the device, and its peak forgotten."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _figures(cells: list[tuple[str, dict[str, Run]]]) -> dict[str, Figure]:
    saved = [1 - runs[OURS].device_mb / max(1e-9, runs[FULL].device_mb) for _, runs in cells]
    note = " ".join(
        f"{name}: "
        + "; ".join(f"{c} {1000 * r.step_s:.1f} ms a step, {r.device_mb:,.0f} MB" for c, r in runs.items())
        + f"; ours computed the lower layers' states in {runs[OURS].before_s:.1f} s for {runs[OURS].steps} steps."
        for name, runs in cells
    )

    def faster(than: str) -> Figure:
        each = [runs[than].step_s / runs[OURS].step_s for _, runs in cells]
        listed = "; ".join(f"{name}: {times:.2f}" for (name, _), times in zip(cells, each, strict=True))
        return Figure(
            value=median_of(each), unit="times faster", baseline=1.0, baseline_name=than,
            note=f"bigger is better; median step, without what ours computes before. Median of {listed}.",
        )  # fmt: skip

    return {
        "gpu_memory_reduction": Figure(
            value=min(saved),
            unit="share of full fine-tuning's GPU memory saved",
            baseline=0.83,
            baseline_name="promised",
            note=f"bigger is better; the most that the allocator held at once, the worst of {len(cells)}: "
            f"{'; '.join(f'{name}: {s:.1%}' for (name, _), s in zip(cells, saved, strict=True))}. {note}",
        ),
        "gpu_step_vs_full_fp32": faster(FULL),
        "gpu_step_vs_full_bf16": faster(FULL_BF16),
        "gpu_step_vs_plain_peft": faster(PEFT),
        "gpu_step_vs_plain_peft_bf16": faster(PEFT_BF16),
    }


def _planned(folder: Path, kind: str, adapter: bool, batch: int, *, quick: bool) -> tuple[str, float, float]:
    recipe = {**_recipe(kind, 0), "training": {"epochs": 1, "batch_size": batch}}
    recipe["task"] = {"name": "text-classification", "max_length": 256}
    recipe["adapter"] = {"r": 16, "alpha": 32, "target_modules": ["query_key_value"]} if adapter else None
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = folder / "rows-plan.jsonl"
    rows.write_text("\n".join(lines[:96] if quick else lines), encoding="utf-8")
    _empty()
    clock = Clock()
    said = plan_steps.predict(
        clock, base=base_of(folder, kind, quick=quick), train=str(rows), recipe=recipe, memory=None
    )
    done = plan_steps.train(Clock())
    measured = done["device_mb"] or peak_mb()
    words = (
        f"plan of {kind}, {'adapter' if adapter else 'all weights'}, {len(lines):,} rows ({said['settings']}): "
        f"{said['memory_mb']:,.0f} MB foretold, {measured:,.0f} measured; {said['seconds']:.1f} s foretold, "
        f"{done['seconds']:.1f} measured; planned in {clock.seconds:.0f} s"
    )
    say(f"  {words}")
    return words, abs(said["memory_mb"] / measured - 1), abs(said["seconds"] / done["seconds"] - 1)


def _plan_figures(plans: list[tuple[str, float, float]]) -> dict[str, Figure]:
    note = f"smaller is better; the worst of {len(plans)}. {'. '.join(words for words, _, _ in plans)}."
    worst = {"gpu_plan_memory_error": max(m for _, m, _ in plans), "gpu_plan_time_error": max(t for _, _, t in plans)}
    return {
        key: Figure(value=value, unit="relative error", baseline=0.2, baseline_name="promised", note=note)
        for key, value in worst.items()
    }


if __name__ == "__main__":
    main()

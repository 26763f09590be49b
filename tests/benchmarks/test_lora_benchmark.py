"""The LoRA benchmark: its measuring, and a run from end to end on a few rows."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.lora_parts.contestants import Run
from benchmarks.lora_parts.tensors import TensorPeak
from benchmarks.lora_parts.time_to_accuracy import reached
from benchmarks.lora_parts.watch import Watch

ROOT = Path(__file__).parents[2]


def _run(points: list[tuple[float, float]]) -> Run:
    return Run(
        contestant="a", trainable=1, parameters=2, steps=10, seconds=20, before_s=1, step_s=1, mean_step_s=1.5,
        points=tuple(points),
    )  # fmt: skip


def test_an_accuracy_counts_from_when_it_is_kept() -> None:
    assert reached(_run([(1, 0.5), (2, 0.9), (3, 0.7), (4, 0.8), (5, 0.85)]), 0.8) == (4, True)
    assert reached(_run([(1, 0.9), (2, 0.7)]), 0.8) == (20, False)


def test_a_longer_run_repeats_the_steps_and_scales_what_came_before() -> None:
    assert _run([]).train_s(steps=100, rows_ratio=3) == 3 + 150


def test_copies_are_taken_with_the_clock_stopped() -> None:
    model = torch.nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    optimizer = torch.optim.SGD([model.weight], lr=1.0)
    with Watch(every=2) as watch:
        watch.model = model
        for _ in range(5):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            time.sleep(0.01)
    assert watch.steps == 5
    assert [set(copy) for _, copy in watch.copies] == [{"weight"}, {"weight"}]
    first, second = (copy["weight"] for _, copy in watch.copies)
    assert torch.allclose(first - second, torch.full((1, 2), 2.0))  # two steps of gradient one
    assert watch.seconds >= 0.05
    assert watch.mean_step_s >= 0.01
    optimizer.step()
    assert watch.steps == 5  # the hook is gone


def test_the_tensor_peak_counts_what_lives_at_once() -> None:
    held = torch.zeros(1_000_000)
    with TensorPeak() as peak:
        before = torch.ones(4_000_000)
        peak.restart()
        assert held.sum() == 0
        one = torch.ones(1_000_000)
        view = one[:10]
        del one, view
        two = torch.ones(500_000)
    assert before.sum() + two.sum() == 4_500_000
    assert peak.peak_mb == pytest.approx(8.0, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "keys"), [
    ("movie", {"accuracy_movie"}),
    ("cost", {"memory_reduction", "memory_reduction_in_tensors", "trainable_reduction", "cost_vs_full_fp32", "cost_vs_plain_peft"}),
    ("time", {"speedup_vs_full_fp32", "speedup_vs_plain_peft"}),
    ("plan", {"plan_memory_error", "plan_time_error"}),
])  # fmt: skip
def test_a_smoke_run_leaves_its_figures(tmp_path: Path, parts: str, keys: set[str]) -> None:
    target = tmp_path / "lora.json"
    command = [
        sys.executable,
        "benchmarks/lora.py",
        "--quick",
        "--seeds",
        "1",
        "--only",
        parts,
        "--output",
        str(target),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    figures = json.loads(target.read_text(encoding="utf-8"))["figures"]
    assert keys <= set(figures)
    assert all(math.isfinite(figure["value"]) for figure in figures.values())

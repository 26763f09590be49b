"""The inference benchmark: how cells become figures, and a run from end to end on tiny models."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness import StepFailed
from benchmarks.inference_parts import encoder_contest
from benchmarks.inference_parts.encoder_contest import FP32, ONNX, OPENVINO_INT8, OURS, Outcome, compared
from benchmarks.inference_parts.encoder_inputs import Cell
from benchmarks.inference_parts.encoder_timing import NAMES, batches_of
from benchmarks.inference_parts.encoders import against_peers

ROOT = Path(__file__).parents[2]


def _outcome(*seconds: float) -> Outcome:
    return Outcome(seconds=list(seconds), peak_mb=1.0, error=0.01, cosine=1.0, text_seconds=[])


def test_the_worst_cell_and_the_best_single_peer() -> None:
    outcomes = {
        "a": {OURS: _outcome(1.0, 9.0, 1.0), FP32: _outcome(8.0), ONNX: _outcome(0.9)},
        "b": {OURS: _outcome(1.0), FP32: _outcome(2.0), ONNX: _outcome(4.9)},
    }
    figures = against_peers(outcomes, {"MiniLM": "openvino int8"}, (FP32, ONNX))
    worst = figures["encoder_worst_cell_vs_best_peer"]
    assert worst.value == pytest.approx(0.9)
    assert worst.baseline_name == f"{ONNX} in a"
    overall = figures["encoder_overall_vs_best_single_peer"]
    assert overall.value == pytest.approx(math.sqrt(0.9 * 4.9))
    assert overall.baseline_name.startswith(ONNX)


def test_a_cells_file_gives_its_batches_back(tmp_path: Path) -> None:
    first = {name: np.arange(6).reshape(2, 3) + number for number, name in enumerate(NAMES)}
    second = {name: np.ones((1, 4), np.int64) for name in NAMES}
    arrays = {f"{i}.{name}": batch[name] for i, batch in enumerate((first, second)) for name in NAMES}
    np.savez(tmp_path / "cell.npz", **arrays)
    found = batches_of(str(tmp_path / "cell.npz"))
    assert [batch["input_ids"].shape for batch in found] == [(2, 3), (1, 4)]
    assert all((found[0][name] == first[name]).all() for name in NAMES)


def test_logits_are_compared_by_norm_and_angle() -> None:
    error, cosine = compared(np.array([[3.0, 4.5]]), np.array([[3.0, 4.0]]))
    assert error == pytest.approx(0.1)
    assert cosine == pytest.approx((9 + 18) / 5 / math.hypot(3, 4.5))


class _Stub:
    """A contestant's process that answers at once; waits are in ``asked``."""

    def __init__(self, logits: list[list[float]], seconds: float) -> None:
        self.logits, self.seconds, self.asked = logits, seconds, []

    def run(self, step: str, **given: Any) -> dict[str, Any]:
        self.asked.append((step, given.get("times")))
        value = self.logits if step == "logits" else [self.seconds] * given["times"]
        return {"value": value, "peak_mb": 7.0}


def test_a_quick_cell_has_more_passes_and_a_slow_one_fewer_rounds() -> None:
    workers: dict[str, Any] = {OURS: _Stub([[1.0, 2.0]], 0.1), FP32: _Stub([[1.0, 2.0]], 0.001)}
    found = encoder_contest._cell(workers, Cell("1 x 1", "file", 1, 1), 5)
    assert len(found[OURS]["seconds"]) == 5
    assert workers[OURS].asked[-1] == ("answer", 3)
    assert workers[FP32].asked[-1] == ("answer", encoder_contest.MOST_PASSES)
    workers = {OURS: _Stub([[1.0]], 0.1), FP32: _Stub([[1.0]], 6.0)}
    found = encoder_contest._cell(workers, Cell("1 x 1", "file", 1, 1, "texts"), 5)
    assert len(found[OURS]["seconds"]) == len(found[OURS]["text_seconds"]) == 2


def test_who_is_near_the_fastest_runs_more_rounds() -> None:
    workers: dict[str, Any] = {name: _Stub([[1.0]], s) for name, s in ((OURS, 0.1), (ONNX, 0.12), (FP32, 0.3))}
    found = encoder_contest._cell(workers, Cell("1 x 1", "file", 1, 1), 3)
    assert {name: len(each["seconds"]) for name, each in found.items()} == {OURS: 9, ONNX: 9, FP32: 3}


def test_another_models_answers_are_no_contest() -> None:
    workers: dict[str, Any] = {FP32: _Stub([[1.0, 2.0]], 1), OPENVINO_INT8: _Stub([[-2.0, 1.0]], 1)}
    with pytest.raises(StepFailed, match="OpenVINO int8 answers 1 x 1 otherwise"):
        encoder_contest._cell(workers, Cell("1 x 1", "file", 1, 1), 1)


@pytest.mark.slow
def test_a_smoke_run_leaves_its_figures_and_goes_on_from_kept_cells(tmp_path: Path) -> None:
    target = tmp_path / "inference.json"
    folder = ["--workspace", str(tmp_path / "kept"), "--output", str(target)]
    command = [sys.executable, "benchmarks/inference.py", "--quick", "--rounds", "1", "--only", "encoders", *folder]
    for time in ("first", "second"):
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
        assert ("sentences, 32 a batch:" in run.stdout) == (time == "first")
    figures = json.loads(target.read_text(encoding="utf-8"))["figures"]
    assert {
        "encoder_worst_cell_vs_best_peer", "encoder_overall_vs_best_single_peer", "encoder_accuracy_drop",
        "encoder_cold_start_s",
    } <= set(figures)  # fmt: skip
    assert all(math.isfinite(figure["value"]) for figure in figures.values())


@pytest.mark.slow
def test_a_smoke_run_of_generation_leaves_its_figures(tmp_path: Path) -> None:
    target = tmp_path / "inference.json"
    command = [sys.executable, "benchmarks/inference.py", "--quick", "--rounds", "1", "--only", "generation"]
    command += ["--workspace", str(tmp_path / "kept"), "--output", str(target)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    document = json.loads(target.read_text(encoding="utf-8"))
    assert {
        "perplexity_vs_fp32", "prefill_tok_s", "decode_tok_s_1", "decode_tok_s_8", "trace_s", "cold_start_s",
        "generation_worst_cell_vs_best_peer", "generation_overall_vs_best_single_peer",
    } <= set(document["figures"])  # fmt: skip
    assert all(math.isfinite(figure["value"]) for figure in document["figures"].values())
    assert "openvino-genai (peer)" in document["versions"]

"""``fit`` under a launcher: two processes over gloo train as one does, and one of them writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_training import save_tiny, sentences

from deepseek.training import TrainingRecipe, fit

RECIPE: dict[str, Any] = {
    "seed": 2,
    "task": {"name": "text-classification"},
    "training": {
        "epochs": 2, "batch_size": 6, "micro_batch_size": 2, "precision": "float32", "learning_rate": 3e-3,
        "trunk_dropout": None, "log_every": 1, "evaluate": 3, "checkpoint": 3,
    },
}  # fmt: skip

WORKER = """
import json, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_two_processes import RECIPE
from tiny_training import sentences
from deepseek import progress
from deepseek.errors import DeepSeekError
from deepseek.training import TrainingRecipe, fit
from deepseek.training.distributed.ranks import rank
rows = sentences(20)
if {broken}:
    rows[7]["text"] = ""
with progress.quiet():
    try:
        result = fit({tiny!r}, rows, TrainingRecipe.model_validate(RECIPE), validation=sentences(8, seed=5), folder={folder!r}, resume=True)
        found = [result.steps, result.loss, result.curve, result.scores, result.best_step, float(result.model.classifier.weight.sum())]
    except DeepSeekError as error:
        found = str(error)
with open({out!r} + str(rank()), "w") as file:
    json.dump(found, file)
"""


def run_two(tiny: Path, folder: Path, out: Path, broken: bool = False) -> list[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = WORKER.format(
        tests=str(Path(__file__).parent), tiny=str(tiny), folder=str(folder), out=str(out), broken=broken
    )
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "LOCAL_WORLD_SIZE": "2",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**shared, "RANK": str(r), "LOCAL_RANK": str(r)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(2)
    ]
    for process in started:
        _, errors = process.communicate(timeout=250)
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(Path(f"{out}{r}").read_text()) for r in range(2)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"), dropout=0.0)


def test_two_processes_train_as_one(tiny: Path, tmp_path: Path) -> None:
    first, second = run_two(tiny, tmp_path / "run", tmp_path / "out")
    alone = fit(tiny, sentences(20), TrainingRecipe.model_validate(RECIPE), validation=sentences(8, seed=5))
    assert first[0] == second[0] == alone.steps == 8
    assert first[4] == second[4] == alone.best_step
    assert first[5] == pytest.approx(second[5], abs=1e-6)
    assert [step for step, _ in first[2]] == [step for step, _ in alone.curve]
    assert [loss for _, loss in first[2]] == pytest.approx([loss for _, loss in alone.curve], rel=1e-4)
    assert first[3] == second[3]
    assert [m["accuracy"] for _, m in first[3]] == [m["accuracy"] for _, m in alone.scores]
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    # what was finished is not trained again, by either
    again, _ = run_two(tiny, tmp_path / "run", tmp_path / "again")
    assert again[:5] == first[:5]


def test_a_wrong_row_stops_both(tiny: Path, tmp_path: Path) -> None:
    found = run_two(tiny, tmp_path / "run", tmp_path / "out", broken=True)
    assert found == ["row 7: 'text' is empty; expected some text"] * 2

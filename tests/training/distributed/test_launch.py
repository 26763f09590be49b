"""Starting workers: results, last words, restarts, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deepseek.errors import ConfigError, DataError, EngineError, MissingExtraError, UnknownNameError
from deepseek.training.distributed.config import DistributedConfig
from deepseek.training.distributed.launch import run_workers
from deepseek.training.distributed.strategy import strategy_arguments

TWO = DistributedConfig(workers=2)


def launch(target: str, folder: Path, config: DistributedConfig = TWO, **payload: Any) -> Any:
    payload = {"folder": str(folder), **payload}
    return run_workers(config, f"worker_functions:{target}", payload, folder=folder / "job", logs=folder / "logs")


def gone(folder: Path) -> bool:
    """Whether the processes that wrote down their numbers have ended."""
    for _ in range(100):
        pids = [int(p.read_text()) for p in folder.glob("pid-*")]
        if pids and not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def test_workers_meet_and_the_first_one_answers(tmp_path: Path) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    environment = dict(os.environ)
    answer = launch("meet", tmp_path, x=[1, "é"])
    assert answer == {"total": 3, "payload": {"folder": str(tmp_path), "x": [1, "é"]}, "rank": 0, "resume": False}
    assert {n: signal.getsignal(n) for n in before} == before
    assert dict(os.environ) == environment


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("killed", EngineError, r"worker 1 was killed by SIGKILL(.|\n)*about to go wrong(.|\n)*Checkpoints are kept"),
        ("ours", DataError, r"worker 1: row 7: expected a label"),
        ("theirs", EngineError, r"worker 1 failed with IndexError: list index out of range(.|\n)*about to go wrong"),
    ],
)
def test_a_workers_end_is_an_error_here(tmp_path: Path, how: str, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        launch("die", tmp_path, how=how)
    assert gone(tmp_path)


def test_workers_are_started_again_where_that_is_asked_for(tmp_path: Path) -> None:
    config = DistributedConfig(workers=2, restarts=1)
    assert launch("die", tmp_path, config, how="killed", once=True) == "second time"


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_launch import launch
from pathlib import Path
try:
    launch("die", Path({folder!r}), how="")
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(3)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_driver(tmp_path: Path, how: signal.Signals) -> None:
    code = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    driver = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        for _ in range(1200):
            if len(list(tmp_path.glob("pid-*"))) == 2:
                break
            assert driver.poll() is None
            time.sleep(0.05)
        driver.send_signal(how)
        out, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert gone(tmp_path)
    if how == signal.SIGINT:
        assert (driver.returncode, out.strip()) == (3, "interrupted")


def test_strategies_are_checked_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    fsdp = DistributedConfig(strategy="fsdp", options={"fsdp_cpu_offload": True})
    assert strategy_arguments(fsdp)["fsdp_config"] == {
        "version": 2, "state_dict_type": "FULL_STATE_DICT", "cpu_offload": True,
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match="cpu_offload"):
        strategy_arguments(DistributedConfig(strategy="fsdp", options={"cpu_ofload": True}))
    with pytest.raises(ValidationError, match="options are for"):
        DistributedConfig(options={"stage": 2})
    with pytest.raises(ValidationError, match="launcher: ray"):
        DistributedConfig(address="auto")
    deepspeed = DistributedConfig(strategy="deepspeed", options={"zero_optimization": {"stage": 1}})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="deepseek\\[deepspeed\\]"):
        strategy_arguments(deepspeed)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    made = strategy_arguments(deepspeed)["deepspeed"]
    assert made["zero_optimization"] == {"stage": 1}
    assert made["train_batch_size"] == "auto"
    for options in ({"train_batch_size": 8}, {"zero_optimization": {"stage": 3}}):
        with pytest.raises(ConfigError):
            strategy_arguments(DistributedConfig(strategy="deepspeed", options=options))

"""Training on several workers is training on one: the same losses and weights, whatever started them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_encoder import recipe, rows

from deepseek.errors import DataError, EngineError
from deepseek.models import from_pretrained, tokenizer_for
from deepseek.training import FitResult, TrainingRecipe, fit

LORA = {"r": 4, "name": "a"}
_ALONE: dict[str, FitResult] = {}


def settings(adapter: Any, distributed: Any = None, **training: Any) -> TrainingRecipe:
    return TrainingRecipe.model_validate(recipe(adapter=adapter, training={"distributed": distributed, **training}))


def alone(encoder: Path, adapter: Any) -> FitResult:
    """The same run in this process, made once."""
    key = json.dumps(adapter)
    if key not in _ALONE:
        _ALONE[key] = fit(encoder, rows(), settings(adapter))
    return _ALONE[key]


def check_same(one: FitResult, many: FitResult) -> None:
    assert many.steps == one.steps == 12
    assert [step for step, _ in many.curve] == [step for step, _ in one.curve]
    torch.testing.assert_close([loss for _, loss in many.curve], [loss for _, loss in one.curve], rtol=1e-4, atol=1e-6)
    assert many.task == one.task
    found, expected = many.model.state_dict(), one.model.state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


def test_two_workers_train_the_adapter_that_one_trains(encoder: Path, tmp_path: Path) -> None:
    config = settings(LORA, {"workers": 2}, micro_batch_size=3)
    check_same(alone(encoder, LORA), fit(encoder, rows(), config, folder=tmp_path))
    assert not (tmp_path / "distributed").exists()


def test_a_loaded_model_is_trained_in_place(encoder: Path) -> None:
    one = alone(encoder, None)
    torch.manual_seed(0)
    torch.random.manual_seed(0)
    model = from_pretrained(encoder, head="sequence-classification", **one.task.model_options())
    with torch.no_grad():  # the head that the other run began with
        fresh = _fresh_head(encoder, one)
        model.classifier.load_state_dict(fresh)
    result = fit(model, rows(), settings(None, {"workers": 2}), tokenizer=tokenizer_for(encoder))
    assert result.model is model
    check_same(one, result)


def _fresh_head(encoder: Path, run: FitResult) -> Any:
    from transformers import set_seed

    set_seed(0)
    return from_pretrained(encoder, head="sequence-classification", **run.task.model_options()).classifier.state_dict()


SCRIPT = """
import os, sys
sys.path.insert(0, {tests!r})
from safetensors.torch import save_file
from tiny_encoder import recipe, rows
from deepseek import progress
from deepseek.training import TrainingRecipe, fit
progress.silence()
result = fit({encoder!r}, rows(), TrainingRecipe.model_validate(recipe()), folder={folder!r})
if os.environ["RANK"] == "0":
    import json
    json.dump([result.steps, result.curve], open({folder!r} + "/found.json", "w"))
save_file({{k: v.contiguous() for k, v in result.model.state_dict().items()}}, {folder!r} + "/" + os.environ["RANK"])
"""


def test_two_nodes_under_torchrun_are_one_process(encoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), encoder=str(encoder), folder=str(tmp_path)))
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={n}", "--nproc-per-node=1",
             "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:29687", "--rdzv-id=nodes", "--local-addr=127.0.0.1",
             str(script)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for n in range(2)
    ]  # fmt: skip
    try:
        said = [node.communicate(timeout=200)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    one = alone(encoder, None)
    steps, curve = json.loads((tmp_path / "found.json").read_text())
    assert steps == one.steps
    torch.testing.assert_close([loss for _, loss in curve], [loss for _, loss in one.curve], rtol=1e-4, atol=1e-6)
    weights = [load_file(tmp_path / rank) for rank in ("0", "1")]
    for name, weight in one.model.state_dict().items():
        assert torch.equal(weights[0][name], weights[1][name])
        torch.testing.assert_close(weights[0][name], weight, rtol=1e-3, atol=1e-4)


def test_wrong_rows_are_the_callers_error(encoder: Path) -> None:
    with pytest.raises(DataError, match="'text' cannot be handed to workers"):
        fit(encoder, [{"text": "good", "label": "yes"}, {"text": 3, "label": "no"}], settings(None, {"workers": 2}))


def kill_a_worker(folder: Path, stop: threading.Event) -> None:
    """Once there is a checkpoint, kill worker 1 as the system does when memory runs out."""
    while not stop.wait(0.02):
        if any(folder.rglob("checkpoint-*/trainer_state.json")):
            break
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder / "distributed" / "job.json").encode() in command and b"RANK=1" in environment:
            os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.slow
def test_a_run_that_lost_a_worker_is_resumed(encoder: Path, tmp_path: Path) -> None:
    long = {"epochs": 40, "learning_rate": 1e-3}
    stop = threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path, stop))
    killer.start()
    began = time.monotonic()
    try:
        with pytest.raises(EngineError, match=r"worker 1 was killed by SIGKILL(.|\n)*run again with resume"):
            fit(encoder, rows(), settings(LORA, {"workers": 2}, **long), folder=tmp_path)
    finally:
        stop.set()
        killer.join()
    assert time.monotonic() - began < 200
    resumed = fit(encoder, rows(), settings(LORA, {"workers": 2}, **long), folder=tmp_path, resume=True)
    whole = fit(encoder, rows(), settings(LORA, **long))
    assert resumed.steps == whole.steps == 240
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], weight, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [None, LORA], ids=["full", "lora"])
def test_fsdp_trains_what_one_process_trains(encoder: Path, tmp_path: Path, adapter: Any) -> None:
    config = settings(adapter, {"workers": 2, "strategy": "fsdp"})
    check_same(alone(encoder, adapter), fit(encoder, rows(), config, folder=tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_deepspeed_trains_what_one_process_trains(encoder: Path, tmp_path: Path) -> None:
    options = {"zero_optimization": {"stage": 2}}
    config = settings(None, {"workers": 2, "strategy": "deepspeed", "options": options})
    check_same(alone(encoder, None), fit(encoder, rows(), config, folder=tmp_path))


@pytest.mark.slow
def test_ray_trains_what_one_process_trains(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = settings(None, {"workers": 2, "launcher": "ray"})
    check_same(alone(encoder, None), fit(encoder, rows(), config, folder=tmp_path))
    assert not ray.is_initialized()

"""Training on a GPU: what the CPU's tests show of adapters, stored states, resuming and plans holds there too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import save_tiny, sentences

from deepseek.training import FitResult, TrainingRecipe, fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
ADAPTER = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["query", "value"], "layers": [1]}


def recipe(*, adapter: bool = True, epochs: float = 6, **settings: Any) -> TrainingRecipe:
    training = {"epochs": epochs, "batch_size": 16, "learning_rate": 5e-3 if adapter else 1e-3, **settings}
    return TrainingRecipe.model_validate(
        {"task": {"name": "text-classification"}, "adapter": ADAPTER if adapter else None, "training": training}
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("gpu"), dropout=0.0)


def accuracy(result: FitResult) -> float:
    return float(result.scores[-1][1]["accuracy"])


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns_and_the_model_is_whole_afterwards(base: Path, adapter: bool, precision: str) -> None:
    result = fit(
        base, sentences(256), recipe(adapter=adapter, precision=precision, epochs=12), validation=sentences(128, seed=1)
    )
    assert result.precision == precision
    assert accuracy(result) > 0.8
    assert {weight.device.type for weight in result.model.parameters()} == {"cuda"}
    assert {weight.dtype for weight in result.model.parameters()} == {torch.float32}
    assert result.model.config._attn_implementation == "sdpa"
    if adapter:
        stored = load_file(base / "model.safetensors")
        weights = {name.replace(".base_layer", ""): value for name, value in result.model.named_parameters()}
        same = [torch.equal(weights[f"bert.{name}"].cpu(), value) for name, value in stored.items()
                if f"bert.{name}" in weights]  # fmt: skip
        assert len(same) > 20
        assert all(same)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stored_states_train_as_computed_ones_do(base: Path, precision: str) -> None:
    found = [
        fit(base, sentences(64), recipe(epochs=2, trunk_dropout=0.0, precision=precision, cache_frozen=cached))
        for cached in (False, True)
    ]
    first, second = ([loss for _, loss in result.curve] for result in found)
    assert second == pytest.approx(first, rel=2e-3 if precision == "float32" else 2e-2)


def test_a_resumed_run_continues_the_curve(base: Path, tmp_path: Path) -> None:
    rows, settings = sentences(64), recipe(epochs=4, precision="float32", checkpoint=4, log_every=1)
    whole = fit(base, rows, settings, folder=tmp_path / "whole")

    class Stop(Exception):  # noqa: N818
        pass

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 8:
            raise Stop

    scored = {"validation": sentences(16, seed=1), "folder": tmp_path / "part"}
    with pytest.raises(Stop):
        fit(base, rows, settings, on_score=stop, **scored)
    resumed = fit(base, rows, settings, resume=True, **scored)
    assert resumed.steps == whole.steps
    assert resumed.curve[-1][1] == pytest.approx(whole.curve[-1][1], rel=1e-3)


def test_a_plan_is_made_for_the_gpu_and_followed(base: Path) -> None:
    result = fit(base, sentences(64), recipe(epochs=1, plan={}))
    assert result.plan is not None
    assert result.plan.device == "cuda"
    assert result.plan.memory_bytes < torch.cuda.get_device_properties(0).total_memory
    assert result.plan.seconds


def test_a_trained_model_answers_alike_on_both_devices(base: Path) -> None:
    model = fit(base, sentences(64), recipe(epochs=1, precision="float32")).model.eval()
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.no_grad():
        here = model(input_ids=ids.cuda(), attention_mask=torch.ones_like(ids).cuda()).logits
        there = model.cpu()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(here.cpu(), there, rtol=1e-3, atol=1e-3)

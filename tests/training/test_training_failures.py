"""What goes wrong in training stops it with what to do, and what was saved before stays."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import sentences

from deepseek.errors import OutOfMemory, TrainingError
from deepseek.tasks import TASKS
from deepseek.training import TrainingConfig, TrainingRecipe, fit
from deepseek.training.loop.checkpoints import checkpoints
from deepseek.training.loop.failures import FiniteCheck

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN = sentences(16)


def run(tiny: Path, folder: Path | None = None, *, resume: bool = False, **training: Any) -> Any:
    settings = {
        "epochs": 3,
        "batch_size": 4,
        "precision": "float32",
        "checkpoint": 2,
        "keep_checkpoints": 9,
        **training,
    }
    recipe = TrainingRecipe.model_validate({"task": {"name": "text-classification"}, "training": settings})
    return fit(tiny, TRAIN, recipe, folder=folder, resume=resume)


def fail_at(monkeypatch: pytest.MonkeyPatch, call: int, outcome: Any) -> None:
    """Let the task's loss be multiplied by a number, or raise, at its ``call``-th call."""
    task, calls = TASKS.get("text-classification"), 0
    original = task.loss

    def loss(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        value, outputs = original(self, *arguments, **options)
        if calls != call:
            return value, outputs
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome(value), outputs

    monkeypatch.setattr(task, "loss", loss)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_with_its_rows(tiny: Path, tmp_path: Path, monkeypatch: Any, bad: float) -> None:
    whole = run(tiny)
    with monkeypatch.context() as patch:
        fail_at(patch, 6, lambda loss: loss * bad)
        with pytest.raises(TrainingError) as caught:
            run(tiny, tmp_path, learning_rate=None)
    text = str(caught.value)
    named = [row for row in TRAIN if f"(id '{row['id']}')" in text]
    assert f"the loss became {bad} at step 6, on row " in text
    assert len(named) == 4
    assert all(f"row {TRAIN.index(row)} (id" in text for row in named)
    assert "training.learning_rate" in text
    assert "checkpoint-4" in text
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["checkpoint-2", "checkpoint-4"]
    resumed = run(tiny, tmp_path, resume=True)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    )


def test_gradients_that_are_no_numbers_stop_before_they_are_used(tiny: Path, monkeypatch: Any) -> None:
    class Break(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("nan")

    from deepseek.models import from_pretrained, tokenizer_for

    task = TASKS.get("text-classification")().fitted(TRAIN)
    model = from_pretrained(tiny, head=task.head, **task.model_options())
    fail_at(monkeypatch, 3, lambda loss: Break.apply(loss))
    recipe = TrainingRecipe.model_validate(
        {"task": {"name": "text-classification"}, "training": {"batch_size": 4, "precision": "float32"}}
    )
    with pytest.raises(TrainingError, match=r"gradients' norm became nan at step 3 \(the loss was finite\), on row"):
        fit(model, TRAIN, recipe, tokenizer=tokenizer_for(tiny))
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_a_device_that_is_looked_at_later_still_names_the_first_bad_step() -> None:
    check = FiniteCheck(TrainingConfig(precision="auto"), lambda row: f"row {row}", lambda: None)
    for step, value in enumerate([1.0, float("nan"), float("nan")]):
        check.saw_loss(step, torch.tensor(value), torch.tensor([step * 2, step * 2 + 1]))
        check.saw_norm(step, torch.tensor(value))
    with pytest.raises(
        TrainingError, match=r"nan at step 2, on row 2, row 3. Try:.*float32.*no checkpoint was written"
    ):
        check.look()
    check.look()  # what was looked at is not looked at again


def test_many_rows_are_counted_not_listed() -> None:
    check = FiniteCheck(TrainingConfig(), lambda row: f"row {row}", lambda: Path("run/checkpoint-2"))
    check.saw_loss(0, torch.tensor(float("inf")), torch.arange(100))
    with pytest.raises(TrainingError, match=r"row 7 and 92 more\. .*checkpoint is run/checkpoint-2"):
        check.look()


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."), "2.00 GiB more"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 123 bytes."), "123 bytes more"),
        (MemoryError(), "more memory than there is."),
    ],
    ids=["gpu", "cpu", "python"],
)
def test_too_little_memory_says_what_needs_less(
    tiny: Path, tmp_path: Path, monkeypatch: Any, error: BaseException, wanted: str
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, 4, error)
        with pytest.raises(OutOfMemory) as caught:
            run(tiny, tmp_path)
    text = str(caught.value)
    assert wanted in text
    assert "micro_batch_size: 2" in text
    assert "gradient_checkpointing: true" in text
    assert "training.plan" in text
    assert "checkpoint-2" in text
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), OutOfMemory)
    # the advice can be followed in the same folder
    assert run(tiny, tmp_path, resume=True, micro_batch_size=2, gradient_checkpointing=True).steps == 12


def test_other_errors_are_left_as_they_are(tiny: Path, monkeypatch: Any) -> None:
    fail_at(monkeypatch, 2, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else") as caught:
        run(tiny)
    assert not isinstance(caught.value, TrainingError)

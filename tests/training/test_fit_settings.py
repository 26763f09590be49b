"""Each training setting does what its description says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import save_tiny, sentences

from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.models import from_pretrained, tokenizer_for
from deepseek.tasks import TASKS
from deepseek.training import FitResult, TrainingRecipe, fit

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN, SCORED = sentences(24), sentences(12, seed=5)
BASE = {"epochs": 2, "batch_size": 8, "precision": "float32", "learning_rate": 1e-2}


def run(
    model: Any, rows: Any = TRAIN, *, adapter: Any = None, task: Any = None, fitted: Any = None, **training: Any
) -> FitResult:
    """Fit with ``training`` on top of ``BASE``; ``fitted`` are further arguments of ``fit``."""
    recipe = TrainingRecipe.model_validate(
        {"task": task or {"name": "text-classification"}, "adapter": adapter, "training": {**BASE, **training}}
    )
    return fit(model, rows, recipe, **(fitted or {}))


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], model: Any) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def loaded(tiny: Path) -> Any:
    task = TASKS.get("text-classification")().fitted(TRAIN)
    torch.manual_seed(0)
    return from_pretrained(tiny, head=task.head, **task.model_options())


def test_it_learns_and_ends_with_the_best_weights(tiny: Path) -> None:
    result = run(tiny, sentences(80), epochs=12, trunk_dropout=None, fitted={"validation": SCORED})
    assert result.metrics["accuracy"] >= 0.9
    assert result.metrics["accuracy_low"] < result.metrics["accuracy"] <= result.metrics["accuracy_high"]
    best = max(metrics["accuracy"] for _, metrics in result.scores)
    first = next(step for step, metrics in result.scores if metrics["accuracy"] == best)
    assert result.best_step == first
    assert len(result.scores) == 12
    assert not result.model.training
    # the model has those weights: scored again it gives the same
    from deepseek.training.loop.scoring import score

    again = score(result.model, result.task, SCORED, result.tokenizer, batch_size=4, bfloat16=False)
    assert again["accuracy"] == result.metrics["accuracy"]


def test_the_last_weights_when_the_best_are_not_asked_for(tiny: Path) -> None:
    result = run(tiny, keep_best=False, evaluate=2, fitted={"validation": SCORED})
    assert [step for step, _ in result.scores] == [2, 4, 6]
    assert result.best_step == 6


def test_only_a_fresh_head_trains(tiny: Path) -> None:
    model = loaded(tiny)
    model.bert.pooler.requires_grad_(False)
    before = state(model)
    result = run(model, train="head", fitted={"tokenizer": tokenizer_for(tiny)})
    assert changed(before, model) == {"classifier.weight", "classifier.bias"}
    assert result.trained == 32 * 2 + 2
    assert result.parameters > result.trained
    whole = run(model, fitted={"tokenizer": tokenizer_for(tiny)})
    assert whole.trained == whole.parameters


def test_train_settings_that_contradict_the_model_are_refused(tiny: Path) -> None:
    model = loaded(tiny)
    model.fresh_modules = ()
    with pytest.raises(ConfigError, match="no fresh head to train"):
        run(model, train="head", fitted={"tokenizer": tokenizer_for(tiny)})
    for train in ("head", "all"):
        with pytest.raises(ConfigError, match=f"train is '{train}', but there is an adapter 'a'"):
            run(tiny, train=train, adapter={"name": "a"})


@pytest.mark.parametrize("micro", [1, 3, 8])
@pytest.mark.parametrize("weights", [None, "balanced"])
def test_micro_batches_do_not_change_the_result(tiny: Path, micro: int, weights: Any) -> None:
    rows = sentences(21)  # the last step has five rows
    options = {"optimizer": "sgd", "trunk_dropout": None, "class_weights": weights, "adapter": {"name": "a", "r": 2}}
    smooth = save_tiny(tiny.parent / "without-dropout", dropout=0.0)
    whole, parts = run(smooth, rows, **options), run(smooth, rows, micro_batch_size=micro, **options)
    assert parts.steps == whole.steps == 6
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    for (name, one), other in zip(whole.model.state_dict().items(), parts.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("adapter", [None, {"name": "a", "r": 2, "layers": [1]}])
def test_checkpointing_computes_the_same_and_is_switched_off_afterwards(tiny: Path, adapter: Any) -> None:
    options = {"adapter": adapter, "trunk_dropout": None, "max_steps": 3}
    plain, less = run(tiny, **options), run(tiny, gradient_checkpointing=True, **options)
    for one, other in zip(plain.model.state_dict().values(), less.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not less.model.is_activation_checkpointing


def test_a_model_comes_back_as_it_was_given(tiny: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("deepseek.training.loop.arguments.trains_in_bfloat16", lambda: True)
    model = loaded(tiny)
    model.config.use_cache = True
    result = run(model, precision="bfloat16", max_steps=2, fitted={"tokenizer": tokenizer_for(tiny)})
    assert result.precision == "bfloat16"
    assert "forward" not in vars(model)  # accelerate's autocast
    assert model.config.use_cache is True
    assert model.classifier.weight.dtype == torch.float32
    assert not model.training


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
def test_optimizers(tiny: Path, optimizer: str) -> None:
    from transformers import Trainer

    seen: list[str] = []
    original = Trainer.create_scheduler

    def look(self: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(type(getattr(self.optimizer, "optimizer", self.optimizer)).__name__)
        return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "create_scheduler", look)
        result = run(tiny, optimizer=optimizer, epochs=6)
    assert [name.casefold() for name in seen] == [optimizer]
    assert result.curve[-1][1] < 0.75


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "polynomial", "inverse_sqrt"])
def test_schedules_warm_up_and_differ(tiny: Path, schedule: str, tmp_path: Path) -> None:
    run(tiny, schedule=schedule, max_steps=10, warmup_ratio=0.2, log_every=1, fitted={"folder": tmp_path})
    lines = [line.split(",") for line in (tmp_path / "curve.csv").read_text().splitlines()]
    rates = [float(line[lines[0].index("learning_rate")]) for line in lines[1:]]
    assert len(rates) == 10
    assert rates[0] < rates[1]
    middle, last = rates[5], rates[9]
    expected = {
        "linear": (0.01 * 5 / 8, 0.01 / 8),
        "cosine": (0.01 * 0.691, 0.01 * 0.038),
        "constant": (0.01, 0.01),
        "polynomial": (0.01 * (5 / 8) ** 2, 0.01 / 64),
        "inverse_sqrt": (0.01 * (2 / 5) ** 0.5, 0.01 * (2 / 9) ** 0.5),
    }[schedule]
    assert (middle, last) == pytest.approx(expected, rel=0.15)


def test_epochs_and_steps(tiny: Path) -> None:
    assert run(tiny, epochs=2.5).steps == 8
    assert run(tiny, epochs=2, max_steps=7).steps == 7
    curve = run(tiny, epochs=2, log_every=4).curve
    assert [step for step, _ in curve] == [4, 6]


def test_early_stopping_counts_scorings_without_a_better_one(tiny: Path) -> None:
    result = run(tiny, epochs=50, learning_rate=1e-12, early_stopping=3, evaluate=1, fitted={"validation": SCORED})
    assert result.steps == 4
    assert result.best_step == 1


def test_scoring_settings_need_rows_to_score(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="early_stopping needs scored rows"):
        run(tiny, early_stopping=2)
    with pytest.raises(ConfigError, match="metric is 'f1_macro', but there are no validation rows"):
        run(tiny, metric="f1_macro")
    with pytest.raises(UnknownNameError, match="unknown metric 'f1_makro'"):
        run(tiny, metric="f1_makro", max_steps=1, fitted={"validation": SCORED})
    assert not run(tiny, evaluate="never", max_steps=1, fitted={"validation": SCORED}).scores


def test_lower_may_be_better(tiny: Path, monkeypatch: Any) -> None:
    task = TASKS.get("text-classification")
    values = iter([3.0, float("nan"), 2.0, 2.5])
    monkeypatch.setattr(task, "score", lambda self, *a, **k: {"loss": next(values)})
    result = run(tiny, metric="loss", epochs=1, batch_size=6, evaluate=1, fitted={"validation": SCORED})
    assert result.best_step == 3
    assert result.metrics == {"loss": 2.0}


def test_rows_of_the_tables_own_splits(tiny: Path) -> None:
    rows = [{**row, "split": "train"} for row in TRAIN] + [{**row, "split": "validation"} for row in SCORED]
    rows.append({"text": "w1", "label": "never seen", "split": "test"})
    result = run(tiny, rows, epochs=1)
    assert result.steps == 3
    assert len(result.scores) == 1
    assert result.task.labels == ("negative", "positive")


def test_validation_rows_are_checked_before_training(tiny: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("transformers.Trainer.train", None)
    with pytest.raises(DataError, match=r"row 2: 'text' is empty"):
        run(tiny, fitted={"validation": [*SCORED[:2], {"text": "", "label": "positive"}]})
    with pytest.raises(DataError, match=r"row 1: expected a string in 'label'"):
        run(tiny, fitted={"validation": [SCORED[0], {"text": "w1"}]})


def test_class_weights_by_label_and_balanced(tiny: Path) -> None:
    from deepseek.training.loop.class_weighting import class_weights

    task = TASKS.get("text-classification")(labels=("a", "b", "c"))
    features = [{"labels": i} for i in (0, 0, 0, 1)]
    assert class_weights(task, features, "balanced").tolist() == pytest.approx([4 / 9, 4 / 3, 4 / 3])
    assert class_weights(task, features, {"b": 2.5}).tolist() == [1.0, 2.5, 1.0]
    assert class_weights(task, features, None) is None
    with pytest.raises(UnknownNameError, match="unknown label 'B'"):
        class_weights(task, features, {"B": 1.0})
    with pytest.raises(ConfigError, match="above 0"):
        class_weights(task, features, {"b": 0.0})
    with pytest.raises(ConfigError, match="no labels"):
        class_weights(TASKS.get("text-generation")(), features, {"b": 1.0})
    with pytest.raises(ConfigError, match="no classes to balance"):
        class_weights(TASKS.get("text-generation")(), features, "balanced")
    heavy = run(tiny, class_weights={"positive": 50.0}, epochs=4, fitted={"validation": SCORED})
    answers = [row for _, row in heavy.scores]
    assert (
        answers[-1]
        != run(tiny, class_weights={"negative": 50.0}, epochs=4, fitted={"validation": SCORED}).scores[-1][1]
    )


def test_label_smoothing_keeps_the_loss_up(tiny: Path) -> None:
    sharp, smooth = run(tiny, epochs=10), run(tiny, epochs=10, label_smoothing=0.4)
    assert smooth.curve[-1][1] > sharp.curve[-1][1]


def test_batches_of_like_length_have_less_padding(tiny: Path, monkeypatch: Any) -> None:
    task = TASKS.get("text-classification")
    original, cells = task.collate, 0

    def collate(self: Any, features: Any, tokenizer: Any) -> Any:
        nonlocal cells
        batch = original(self, features, tokenizer)
        cells += batch["input_ids"].numel()
        return batch

    monkeypatch.setattr(task, "collate", collate)
    used = {}
    for grouped in (True, False):
        cells = 0
        run(tiny, sentences(64, longest=30), epochs=1, group_by_length=grouped)
        used[grouped] = cells
    assert used[True] < 0.8 * used[False]


def test_stored_states_of_frozen_layers_give_the_same_run(tiny: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"adapter": {"name": "a", "r": 2, "layers": [1]}}
    plain = run(tiny, fitted={"validation": SCORED}, **options)
    kept = run(tiny, cache_frozen=True, fitted={"validation": SCORED, "folder": tmp_path}, **options)
    assert [loss for _, loss in kept.curve] == pytest.approx([loss for _, loss in plain.curve], rel=1e-5)
    assert kept.scores == plain.scores
    assert list((tmp_path / "states").iterdir())

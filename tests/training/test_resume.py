"""A run that is interrupted anywhere and resumed is, to the bit, the run that was not interrupted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import sentences

from deepseek.errors import ConfigError
from deepseek.training import FitResult, TrainingRecipe, fit
from deepseek.training.loop.checkpoints import checkpoints

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN, SCORED = sentences(21), sentences(10, seed=5)


def recipe(adapter: bool = False, **training: Any) -> TrainingRecipe:
    return TrainingRecipe.model_validate(
        {
            "seed": 3,
            "task": {"name": "text-classification"},
            "adapter": {"name": "a", "r": 2, "dropout": 0.1} if adapter else None,
            "training": {
                "epochs": 3, "batch_size": 4, "micro_batch_size": 3, "precision": "float32", "learning_rate": 3e-3,
                "trunk_dropout": None, "log_every": 4, "evaluate": 5, "checkpoint": 2, "keep_checkpoints": 50,
                "class_weights": "balanced", **training,
            },
        }
    )  # fmt: skip


def weights(result: FitResult) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in result.model.state_dict().items()}


def assert_same(found: FitResult, expected: FitResult) -> None:
    before, after = weights(expected), weights(found)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for field in ("steps", "loss", "curve", "scores", "best_step", "metrics", "trained", "parameters", "precision"):
        assert getattr(found, field) == getattr(expected, field), field


@pytest.mark.parametrize(
    ("adapter", "training"),
    [
        (False, {}),
        (True, {}),
        (True, {"group_by_length": False, "keep_best": False, "schedule": "cosine"}),
        (False, {"optimizer": "adafactor", "evaluate": "epoch", "gradient_checkpointing": True}),
        (False, {"optimizer": "sgd", "evaluate": 2, "early_stopping": 2, "learning_rate": 1e-6}),
    ],
    ids=["full", "adapter", "adapter-shuffled-last", "adafactor-epochs", "early-stopping"],
)
def test_resumed_from_any_checkpoint_it_is_the_same_run(
    tiny: Path, tmp_path: Path, adapter: bool, training: dict[str, Any]
) -> None:
    settings = recipe(adapter, **training)
    whole = fit(tiny, TRAIN, settings, validation=SCORED, folder=tmp_path / "whole")
    saved = checkpoints(tmp_path / "whole" / "checkpoints")
    assert len(saved) >= 3
    assert whole.curve
    assert whole.scores
    for index in {0, len(saved) // 2, len(saved) - 2, len(saved) - 1}:
        cut = tmp_path / f"cut-{index}"
        shutil.copytree(tmp_path / "whole", cut)
        for later in checkpoints(cut / "checkpoints")[index + 1 :]:
            shutil.rmtree(later)
        assert_same(fit(tiny, TRAIN, settings, validation=SCORED, folder=cut, resume=True), whole)


def test_a_run_without_a_folder_is_the_same_too(tiny: Path, tmp_path: Path) -> None:
    assert_same(
        fit(tiny, TRAIN, recipe(), validation=SCORED),
        fit(tiny, TRAIN, recipe(), validation=SCORED, folder=tmp_path / "run"),
    )


def test_scoring_changes_nothing_in_training(tiny: Path) -> None:
    scored = fit(tiny, TRAIN, recipe(keep_best=False), validation=SCORED)
    alone = fit(tiny, TRAIN, recipe(keep_best=False))
    assert scored.curve == alone.curve
    assert all(torch.equal(a, b) for a, b in zip(weights(scored).values(), weights(alone).values(), strict=True))


def test_what_a_task_draws_while_it_collates_is_the_same_too(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    settings = recipe(group_by_length=False)
    task = type(settings.build_task())
    original, drawn = task.collate_training, []

    def masking(self: Any, features: Any, tokenizer: Any) -> Any:
        batch = original(self, features, tokenizer)
        hidden = torch.rand(batch["input_ids"].shape) < 0.3
        drawn.append(hidden.sum().item())
        return {**batch, "input_ids": batch["input_ids"].masked_fill(hidden, 4)}

    monkeypatch.setattr(task, "collate_training", masking)
    whole = fit(tiny, TRAIN, settings, folder=tmp_path)
    assert len(drawn) == 33
    assert len(set(drawn)) > 3
    for later in checkpoints(tmp_path / "checkpoints")[4:]:
        shutil.rmtree(later)
    assert_same(fit(tiny, TRAIN, settings, folder=tmp_path, resume=True), whole)


def test_what_a_task_draws_differs_from_epoch_to_epoch() -> None:
    from deepseek.training.loop.collation import collator

    class Draws:
        def collate_training(self, features: Any, tokenizer: Any) -> Any:
            return {"drawn": torch.rand(2)}

    state = torch.random.get_rng_state()
    found = [collator(Draws(), None, seed=0, epoch=lambda e=e: e)([{"row": 3}])["drawn"] for e in (0, 1, 0)]  # type: ignore[arg-type]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(torch.random.get_rng_state(), state)


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_resume import TRAIN, SCORED, recipe
from deepseek import progress
from deepseek.tasks.text_classification import TextClassification
from deepseek.training import fit

original, batches = TextClassification.collate_training, 0
def collate(self, *arguments):
    global batches
    batches += 1
    if batches == {batch}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *arguments)
TextClassification.collate_training = collate
with progress.quiet():
    fit({tiny!r}, TRAIN, recipe(True), validation=SCORED, folder={folder!r})
"""


def test_killed_between_checkpoints_it_goes_on(tiny: Path, tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), batch=16, tiny=str(tiny), folder=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    saved = checkpoints(tmp_path / "run" / "checkpoints")
    assert saved
    resumed = fit(tiny, TRAIN, recipe(True), validation=SCORED, folder=tmp_path / "run", resume=True)
    assert_same(resumed, fit(tiny, TRAIN, recipe(True), validation=SCORED))


def test_a_checkpoint_that_is_half_written_is_not_taken(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from deepseek.training.loop import checkpoints as module

    original = module.finish_part

    def die(part: Path) -> Path:
        if part.name.startswith("checkpoint-6"):
            raise KeyboardInterrupt
        return original(part)

    with monkeypatch.context() as patch:
        patch.setattr("deepseek.training.loop.trainer.finish_part", die)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny, TRAIN, recipe(), validation=SCORED, folder=tmp_path)
    home = tmp_path / "checkpoints"
    assert [path.name for path in checkpoints(home)] == ["checkpoint-2", "checkpoint-4"]
    assert (home / "checkpoint-6.part").is_dir()
    resumed = fit(tiny, TRAIN, recipe(), validation=SCORED, folder=tmp_path, resume=True)
    assert_same(resumed, fit(tiny, TRAIN, recipe(), validation=SCORED))
    assert not list(home.glob("*.part"))


def test_only_the_asked_number_of_checkpoints_and_the_best_are_kept(tiny: Path, tmp_path: Path) -> None:
    result = fit(tiny, TRAIN, recipe(keep_checkpoints=2), validation=SCORED, folder=tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == sorted([f"best-{result.best_step}", "checkpoint-16", "checkpoint-18"])


def test_a_finished_run_is_not_trained_again(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    whole = fit(tiny, TRAIN, recipe(), validation=SCORED, folder=tmp_path)
    monkeypatch.setattr("transformers.Trainer.train", None)
    assert_same(fit(tiny, TRAIN, recipe(), validation=SCORED, folder=tmp_path, resume=True), whole)


def test_resuming_needs_the_same_recipe_and_rows(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, TRAIN, recipe(max_steps=4), validation=SCORED, folder=tmp_path)
    for other, match in [
        ({"max_steps": 5}, "training.max_steps was 4 and is 5"),
        ({"max_steps": 4, "learning_rate": 1e-4}, "training.learning_rate was 0.003 and is 0.0001"),
    ]:
        with pytest.raises(ConfigError, match=match):
            fit(tiny, TRAIN, recipe(**other), validation=SCORED, folder=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="other train rows"):
        fit(tiny, TRAIN[:-1], recipe(max_steps=4), validation=SCORED, folder=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="other validation rows"):
        fit(tiny, TRAIN, recipe(max_steps=4), validation=SCORED[:-1], folder=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="give fit the folder"):
        fit(tiny, TRAIN, recipe(max_steps=4), validation=SCORED, resume=True)
    # what does not change the result may be changed, to get past a lack of memory for instance
    fit(tiny, TRAIN, recipe(max_steps=4, micro_batch_size=1), validation=SCORED, folder=tmp_path, resume=True)


def test_an_adapter_is_not_resumed_on_another_base(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    made = recipe(adapter=True, checkpoint=2)
    fit(str(tiny), TRAIN, made, folder=tmp_path / "run")
    other = shutil.copytree(tiny, tmp_path / "other")
    changed = {name: value * 1.5 for name, value in load_file(other / "model.safetensors").items()}
    save_file(changed, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="began on another base model"):
        fit(str(other), TRAIN, made, folder=tmp_path / "run", resume=True)
    fit(str(tiny), TRAIN, made, folder=tmp_path / "run", resume=True)


def test_resuming_where_nothing_is_starts_anew(tiny: Path, tmp_path: Path) -> None:
    assert fit(tiny, TRAIN, recipe(max_steps=2), folder=tmp_path / "new", resume=True).steps == 2


def test_without_resume_an_older_run_is_replaced(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, TRAIN, recipe(), validation=SCORED, folder=tmp_path)
    again = fit(tiny, TRAIN, recipe(max_steps=3), folder=tmp_path)
    assert again.steps == 3
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["checkpoint-2", "checkpoint-3"]

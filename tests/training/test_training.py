"""Training learns, resumes, and refuses what it cannot train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed

from deepseek.errors import ConfigError, DataError
from deepseek.models import LoRAConfig, from_pretrained, tokenizer_for
from deepseek.tasks import TASKS
from deepseek.training import TrainingConfig, TrainingRecipe, fit, tfidf_baseline


def fresh(rows: list[dict[str, Any]], adapter: bool = True) -> tuple[Any, Any, Any]:
    task = TASKS.get("text-classification")().fitted(rows)
    set_seed(0)
    model = from_pretrained("all-minilm-l6-v2", head=task.head, **task.model_options())
    if adapter:
        model.add_adapter("a", LoRAConfig(r=4))
    return model, task, tokenizer_for("all-minilm-l6-v2")


def train(
    model: Any,
    task: Any,
    tokenizer: Any,
    rows: Any,
    *,
    config: Any = None,
    seed: int = 0,
    checkpoints: Any = None,
    resume: bool = False,
) -> Any:
    recipe = TrainingRecipe(task={"name": task.name}, training=config or TrainingConfig(), seed=seed)
    return fit(model, rows, recipe, tokenizer=tokenizer, folder=checkpoints, resume=resume)


SHORT = {"batch_size": 8, "precision": "float32"}


def test_the_same_seed_gives_the_same_weights(rows: list[dict[str, Any]]) -> None:
    states = []
    for seed in (1, 1, 2):
        model, task, tokenizer = fresh(rows)
        train(model, task, tokenizer, rows * 2, config=TrainingConfig(epochs=1, **SHORT), seed=seed)
        states.append(model.get_adapter_state_dict("a"))
    same = all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    other = all(torch.equal(states[0][k], states[2][k]) for k in states[0])
    assert same
    assert not other


def test_only_the_adapter_and_the_fresh_head_change(rows: list[dict[str, Any]]) -> None:
    model, task, tokenizer = fresh(rows)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    result = train(model, task, tokenizer, rows * 4, config=TrainingConfig(epochs=3, **SHORT))
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed
    assert all(".lora_" in name or "modules_to_save" in name for name in changed)
    assert result.steps == 12
    assert result.curve
    assert result.precision == "float32"


def test_all_weights_train_without_an_adapter(rows: list[dict[str, Any]]) -> None:
    model, task, tokenizer = fresh(rows, adapter=False)
    before = model.bert.encoder.layer[0].attention.self.query.weight.clone()
    train(model, task, tokenizer, rows, config=TrainingConfig(epochs=1, learning_rate=1e-4, **SHORT))
    assert not torch.equal(model.bert.encoder.layer[0].attention.self.query.weight, before)


def test_an_interrupted_run_resumes_where_it_was(rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: Any) -> None:
    config = TrainingConfig(epochs=3, **SHORT)
    whole, task, tokenizer = fresh(rows)
    train(whole, task, tokenizer, rows * 2, config=config)

    cut, task, tokenizer = fresh(rows)
    steps = 0
    original = type(task).collate

    def interrupt(self: Any, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 4:  # in the middle of the second epoch
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(task), "collate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(cut, task, tokenizer, rows * 2, config=config, checkpoints=tmp_path)
    again, task, tokenizer = fresh(rows)
    result = train(again, task, tokenizer, rows * 2, config=config, checkpoints=tmp_path, resume=True)
    assert result.steps == 6
    expected = whole.get_adapter_state_dict("a")
    found = again.get_adapter_state_dict("a")
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


def test_trunk_dropout_is_off_and_the_adapters_own_is_kept(rows: list[dict[str, Any]], monkeypatch: Any) -> None:
    task = TASKS.get("text-classification")().fitted(rows)
    model = from_pretrained("all-minilm-l6-v2", head=task.head, **task.model_options())
    model.add_adapter("a", LoRAConfig(r=2, dropout=0.3))
    rates: dict[str, float] = {}
    original = type(task).loss

    def look(self: Any, *arguments: Any, **options: Any) -> Any:
        rates.update({n: m.p for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout)})
        return original(self, *arguments, **options)

    monkeypatch.setattr(type(task), "loss", look)
    train(model, task, tokenizer_for("all-minilm-l6-v2"), rows, config=TrainingConfig(epochs=1, **SHORT))
    assert {p for n, p in rates.items() if ".lora_" in n} == {0.3}
    assert {p for n, p in rates.items() if ".lora_" not in n and n.startswith("bert.")} == {0.0}


def test_wrong_rows_stop_before_training(rows: list[dict[str, Any]]) -> None:
    model, task, tokenizer = fresh(rows)
    with pytest.raises(DataError, match="row 8"):
        train(model, task, tokenizer, [*rows, {"text": "x", "label": None}])
    with pytest.raises(DataError, match="'text' is empty"):
        train(model, task, tokenizer, [*rows, {"text": " ", "label": "positive"}])


def test_bfloat16_is_refused_where_the_hardware_lacks_it(rows: list[dict[str, Any]], monkeypatch: Any) -> None:
    model, task, tokenizer = fresh(rows)
    monkeypatch.setattr("deepseek.training.loop.arguments.trains_in_bfloat16", lambda: False)
    with pytest.raises(ConfigError, match="no native bfloat16"):
        train(model, task, tokenizer, rows, config=TrainingConfig(epochs=1, precision="bfloat16"))
    result = train(model, task, tokenizer, rows, config=TrainingConfig(epochs=1, precision="auto"))
    assert result.precision == "float32"


def test_the_baseline_learns_words(rows: list[dict[str, Any]]) -> None:
    task = TASKS.get("text-classification")().fitted(rows)
    assert tfidf_baseline(task, rows * 3, rows)["accuracy"] == 1.0

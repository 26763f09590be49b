"""A search that trains: a tiny encoder, scored on validation rows after each epoch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from deepseek.errors import ConfigError
from deepseek.training import TrainingRecipe
from deepseek.training.search import SearchConfig, fit_objective, search

pytest.importorskip("optuna")
sys.path.insert(0, str(Path(__file__).parents[1] / "distributed"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_encoder import write_encoder

    return write_encoder(tmp_path_factory.mktemp("encoder"))


def test_a_search_trains_and_prunes(encoder: Path, tmp_path: Path) -> None:
    from tiny_encoder import recipe, rows

    base = TrainingRecipe.model_validate(recipe(training={"epochs": 4}))
    config = SearchConfig(
        parameters={
            "training.learning_rate": {"choices": [1e-2, 5e-3, 1e-7, 2e-7]},
            "training.schedule": {"choices": ["constant"]},
        },
        sampler="grid",
        trials=9,
        startup_trials=1,
        seed=1,
    )
    result = search(base, config, fit_objective(encoder, rows(90), validation=rows(150)[90:]), tmp_path)
    assert len(result.trials) == 4
    assert result.best.parameters["training.learning_rate"] in (1e-2, 5e-3)
    assert result.best.value is not None
    assert all(t.value < result.best.value for t in result.trials if t.parameters["training.learning_rate"] < 1e-6)
    assert result.recipe.training.schedule == "constant"
    assert [step for step, _ in result.best.scores] == [12, 24, 36, 48]
    assert result.best.metrics["accuracy"] == result.best.value
    assert {t.state for t in result.trials} <= {"complete", "pruned"}
    assert all(len(t.scores) < 4 for t in result.trials if t.state == "pruned")


def test_a_loaded_model_is_no_starting_point(encoder: Path) -> None:
    from deepseek.models import from_pretrained

    with pytest.raises(ConfigError, match="each trial has to start from the same weights"):
        fit_objective(from_pretrained(encoder), [])  # type: ignore[arg-type]


def test_without_validation_rows_there_is_nothing_to_search(encoder: Path, tmp_path: Path) -> None:
    from tiny_encoder import recipe, rows

    base = TrainingRecipe.model_validate(recipe(training={"epochs": 1}))
    config = SearchConfig(parameters={"training.learning_rate": {"choices": [1e-3]}})
    objective: Any = fit_objective(encoder, rows(16))
    with pytest.raises(ConfigError, match="give fit_objective validation rows"):
        search(base, config, objective, tmp_path)

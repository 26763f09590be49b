"""Search: what it tries, what it gives up, what it writes, and that it goes on after a kill."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from search_objectives import bowl, broken, dying, failing, failing_or_bowl, slow

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.training import TrainingRecipe
from deepseek.training.search import SearchConfig, SearchError, search
from deepseek.training.search.overrides import with_overrides

pytest.importorskip("optuna")

RECIPE = TrainingRecipe(task={"name": "text-classification"}, adapter={"r": 4})
SPACE: dict[str, Any] = {
    "training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "adapter.r": {"choices": [4, 8, 16]},
}


def config(**changes: Any) -> SearchConfig:
    return SearchConfig(**{"parameters": SPACE, "trials": 12, "pruner": "none", **changes})


def tried(result: Any) -> list[Any]:
    return [(t.parameters, t.state) for t in result.trials]


def test_a_search_finds_good_settings_and_writes_what_it_found(tmp_path: Path) -> None:
    result = search(RECIPE, config(trials=25), bowl, tmp_path)
    assert result.metric == "accuracy"
    assert result.direction == "maximize"
    assert result.best.value is not None
    assert result.best.value > 0.85
    assert result.best.value == max(t.value for t in result.trials if t.value is not None)
    assert result.recipe.training.learning_rate == result.best.parameters["training.learning_rate"]
    again = TrainingRecipe.model_validate(yaml.safe_load((tmp_path / "best.yaml").read_text()))
    assert again == result.recipe
    with (tmp_path / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in table] == [t.value for t in result.trials]
    assert [float(row["training.learning_rate"]) for row in table] == [
        t.parameters["training.learning_rate"] for t in result.trials
    ]
    record = json.loads((tmp_path / "trials.json").read_text())
    assert record[0]["scores"][-1] == [4, record[0]["metrics"]]
    assert record[0]["metrics"]["accuracy"] == result.trials[0].value
    assert record[0]["metrics"]["loss"] == pytest.approx(1 - (result.trials[0].value or 0))
    text = str(result)
    assert "25 complete, 0 pruned, 0 failed" in text
    assert text.splitlines()[1].split()[0] == str(result.best.number)
    pytest.importorskip("matplotlib")
    for name in ("history.png", "slices.png", "importance.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_seed_decides_what_is_tried(tmp_path: Path, sampler: str) -> None:
    runs = [
        tried(search(RECIPE, config(seed=seed, sampler=sampler, trials=14), bowl, tmp_path / str(i)))
        for i, seed in enumerate((1, 1, 2))
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len({p["training.learning_rate"] for p, _ in runs[0]}) == 14


def test_a_grid_tries_every_combination_once(tmp_path: Path) -> None:
    space = {
        "training.epochs": {"low": 1, "high": 5, "step": 2},
        "adapter.target_modules": {"choices": [["query"], ["key"]]},
    }
    result = search(
        RECIPE, config(parameters=space, sampler="grid", trials=50), lambda r, _: r.training.epochs, tmp_path
    )
    pairs = {(t.parameters["training.epochs"], t.parameters["adapter.target_modules"][0]) for t in result.trials}
    assert len(result.trials) == 6
    assert pairs == {(e, m) for e in (1, 3, 5) for m in ("query", "key")}
    assert result.best.value == 5


def test_hopeless_trials_are_given_up(tmp_path: Path) -> None:
    seen: list[int] = []

    def objective(recipe: Any, report: Any) -> float:
        for step in range(1, 11):
            seen.append(step)
            report(step, {"accuracy": -abs(recipe.training.learning_rate - 1e-3)})
        return -abs(recipe.training.learning_rate - 1e-3)

    result = search(RECIPE, config(trials=20, pruner="median", startup_trials=3, sampler="random"), objective, tmp_path)
    states = [t.state for t in result.trials]
    assert states.count("pruned") >= 5
    assert "pruned" not in states[:3]
    assert len(seen) < 200
    pruned = next(t for t in result.trials if t.state == "pruned")
    assert len(pruned.scores) < 10
    assert pruned.metrics == pruned.scores[-1][1]


def test_hyperband_prunes_too(tmp_path: Path) -> None:
    def objective(recipe: Any, report: Any) -> float:
        for step in range(1, 10):
            report(step, {"accuracy": -recipe.training.learning_rate})
        return -recipe.training.learning_rate

    result = search(RECIPE, config(trials=20, pruner="hyperband", sampler="random"), objective, tmp_path)
    assert {"pruned", "complete"} == {t.state for t in result.trials}


def test_the_tasks_direction_or_a_given_one_decides(tmp_path: Path) -> None:
    lower = search(RECIPE, config(metric="loss"), bowl, tmp_path / "a")
    assert lower.direction == "minimize"
    assert lower.best.value == min(t.value for t in lower.trials if t.value is not None)
    worst = search(RECIPE, config(direction="minimize"), bowl, tmp_path / "b")
    assert worst.best.value == min(t.value for t in worst.trials if t.value is not None)


def test_failed_trials_are_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    result = search(RECIPE, config(trials=20), failing, tmp_path)
    failed = [t for t in result.trials if t.state == "failed"]
    assert {t.reason for t in failed} == {"DataError: row 3: expected a label", "accuracy is nan"}
    assert all(t.value is None for t in failed)
    assert any(t.state == "complete" for t in result.trials)
    with pytest.raises(SearchError, match=r"none of 12 trials completed(.|\n)*row 3"):
        search(
            RECIPE, config(parameters={"training.learning_rate": {"low": 1e-6, "high": 1e-4}}), failing, tmp_path / "b"
        )
    assert (tmp_path / "b" / "trials.csv").exists()


def test_a_fault_of_the_objective_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="no_such_setting"):
        search(RECIPE, config(), broken, tmp_path / "a")
    with pytest.raises(ConfigError, match=r"optimises 'accuracy', but the objective reported f1"):
        search(RECIPE, config(), lambda *_: {"f1": 1.0}, tmp_path / "b")
    assert len(json.loads((tmp_path / "a" / "trials.json").read_text())) == 1


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ({"training.learning_rat": {"low": 0.1, "high": 0.2}}, UnknownNameError, r"'training\.learning_rate'"),
        ({"adapter.rank": {"choices": [1]}}, UnknownNameError, "adapter.rank"),
        ({"task.max_lenght": {"choices": [1]}}, UnknownNameError, r"'task\.max_length'"),
        ({"training.learning_rate": {"low": 0.1, "high": 2}}, ConfigError, "would try training.learning_rate = 2"),
        ({"adapter.r": {"choices": [8, 0]}}, ConfigError, "would try adapter.r = 0"),
        ({"training.schedule": {"choices": ["linear", "square"]}}, ConfigError, "square"),
    ],
)
def test_wrong_settings_stop_before_any_trial(tmp_path: Path, space: Any, error: Any, message: str) -> None:
    def never(*_: Any) -> float:
        raise AssertionError

    with pytest.raises(error, match=message):
        search(RECIPE, config(parameters=space), never, tmp_path)
    assert not (tmp_path / "study.db").exists()


@pytest.mark.parametrize(
    "values",
    [{"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, {"low": 1, "high": 9, "log": True, "step": 1},
     {"choices": []}, {"choices": [1, 1]}, {"low": 1}],
)  # fmt: skip
def test_wrong_ranges_are_refused(values: Any) -> None:
    with pytest.raises(ValidationError):
        config(parameters={"training.epochs": values})


def test_a_grid_over_a_range_without_a_step_is_refused() -> None:
    with pytest.raises(ValidationError, match="grid needs a step"):
        config(sampler="grid")


@settings(max_examples=30, deadline=None)
@given(rate=st.floats(1e-6, 1), rank=st.integers(1, 4096), smoothing=st.floats(0, 0.9))
def test_overrides_change_what_they_name_and_nothing_else(rate: float, rank: int, smoothing: float) -> None:
    plain = TrainingRecipe(task={"name": "text-classification"})
    values = {
        "training.learning_rate": rate,
        "adapter.r": rank,
        "training.label_smoothing": smoothing,
        "task.max_length": 9,
    }
    changed = with_overrides(plain, values)
    assert (changed.training.learning_rate, changed.training.label_smoothing) == (rate, smoothing)
    assert changed.adapter is not None
    assert changed.adapter.r == rank
    assert changed.build_task().max_length == 9
    rest = {"learning_rate", "label_smoothing"}
    assert changed.training.model_dump(exclude=rest) == plain.training.model_dump(exclude=rest)
    assert plain.adapter is None


def test_trials_at_once_are_those_of_one_after_the_other(tmp_path: Path) -> None:
    one = search(RECIPE, config(sampler="random", trials=5), slow, tmp_path / "one")
    two = search(RECIPE, config(sampler="random", trials=5, parallel=2), slow, tmp_path / "two")
    assert tried(one) == tried(two)
    assert [t.value for t in one.trials] == [t.value for t in two.trials]
    assert [t.scores for t in one.trials] == [t.scores for t in two.trials]
    processes = {p.read_text().split()[0] for p in (tmp_path / "two").rglob("starts")}
    assert len(processes) == 5


def test_a_trial_whose_process_dies_has_failed(tmp_path: Path) -> None:
    result = search(
        RECIPE, config(sampler="grid", parameters={"adapter.r": {"choices": [8, 16]}}, parallel=2), dying, tmp_path
    )
    assert {t.parameters["adapter.r"]: t.state for t in result.trials} == {8: "complete", 16: "failed"}
    assert "SIGKILL" in str(next(t.reason for t in result.trials if t.state == "failed"))


def test_a_closure_cannot_run_in_other_processes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="parallel: 1"):
        search(RECIPE, config(parallel=2), lambda *_: 0.0, tmp_path)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from search_objectives import slow
from test_settings_search import RECIPE, config
from deepseek.training.search import search
if __name__ == "__main__":
    search(RECIPE, config(trials=8, sampler={sampler!r}), slow, {folder!r}, resume=True)
"""


def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    whole = search(RECIPE, config(trials=8, sampler="tpe"), slow, tmp_path / "whole")
    folder = tmp_path / "killed"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder), sampler="tpe"))
    process = subprocess.Popen([sys.executable, str(script)])
    third = folder / "trials" / "trial-0002" / "starts"
    try:
        for _ in range(1200):
            if third.exists():
                break
            assert process.poll() is None
            time.sleep(0.05)
        with pytest.raises(ConfigError, match="another process searches"):
            search(RECIPE, config(trials=8), slow, folder, resume=True)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with pytest.raises(ConfigError, match="has a search already"):
        search(RECIPE, config(trials=8), slow, folder)
    with pytest.raises(ConfigError, match="seed = 0, and now it is 5"):
        search(RECIPE, config(trials=8, seed=5), slow, folder, resume=True)
    result = search(RECIPE, config(trials=8), slow, folder, resume=True)
    assert len(result.trials) == 8
    assert [t.number for t in result.trials] == list(range(8))
    assert tried(result) == tried(whole)
    starts = [len((folder / "trials" / f"trial-{i:04d}" / "starts").read_text().splitlines()) for i in range(8)]
    assert starts == [1, 1, 2, 1, 1, 1, 1, 1]


def test_a_finished_search_goes_on_with_more_trials(tmp_path: Path) -> None:
    first = search(RECIPE, config(trials=3), bowl, tmp_path)
    more = search(RECIPE, config(trials=6), bowl, tmp_path, resume=True)
    whole = search(RECIPE, config(trials=6), bowl, tmp_path / "whole")
    assert tried(more)[:3] == tried(first)
    assert tried(more) == tried(whole)


def test_no_trial_starts_after_the_timeout(tmp_path: Path) -> None:
    result = search(RECIPE, config(trials=1000, timeout=1), slow, tmp_path)
    assert 1 <= len(result.trials) < 1000


@pytest.mark.slow
def test_ray_tune_runs_the_same_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.tune")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    here = search(RECIPE, config(sampler="random", trials=4), failing_or_bowl, tmp_path / "here")
    there = search(
        RECIPE, config(sampler="random", trials=4, launcher="ray", parallel=2), failing_or_bowl, tmp_path / "ray"
    )
    assert tried(there) == tried(here)
    assert [(t.value, t.metrics, t.scores, t.reason) for t in there.trials] == [
        (t.value, t.metrics, t.scores, t.reason) for t in here.trials
    ]

"""The run folder says what was trained, on what, where and how it went; trackers get the same numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml
from tiny_training import sentences

from deepseek.data import Table
from deepseek.errors import ConfigError, MissingExtraError
from deepseek.training import FitResult, TrainingRecipe, fit

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE: dict[str, Any] = {
    "seed": 1,
    "task": {"name": "text-classification"},
    "adapter": {"name": "a", "r": 2},
    "training": {"epochs": 2, "batch_size": 4, "precision": "float32", "log_every": 2, "evaluate": 3},
}


def recipe(**training: Any) -> TrainingRecipe:
    return TrainingRecipe.model_validate({**RECIPE, "training": {**RECIPE["training"], **training}})


@pytest.fixture(scope="module")
def done(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    folder = tmp_path_factory.mktemp("run")
    rows = [{**row, "split": "train" if i % 4 else "validation"} for i, row in enumerate(sentences(24))]
    Table.create(folder / "rows.lance", pa.Table.from_pylist(rows))
    return fit(tiny, folder / "rows.lance", recipe(tracking={"tensorboard": True}), folder=folder / "run")


def read(result: FitResult, name: str) -> Any:
    assert result.folder is not None
    return json.loads((result.folder / name).read_text(encoding="utf-8"))


def test_the_recipe_can_be_run_again(done: FitResult) -> None:
    assert done.folder is not None
    stored = yaml.safe_load((done.folder / "recipe.yaml").read_text())
    assert TrainingRecipe.model_validate(stored) == recipe(tracking={"tensorboard": True})


def test_data_and_environment_are_recorded(done: FitResult) -> None:
    data = read(done, "data.json")
    assert data["train"]["source"].endswith("rows.lance")
    assert data["train"]["version"] == 1
    assert (data["train"]["rows"], data["validation"]["rows"]) == (18, 6)
    assert data["train"]["columns"] == ["id", "text", "label", "split"]
    environment = read(done, "environment.json")
    assert environment["libraries"]["torch"] == torch.__version__
    assert environment["python"]
    assert environment["cores"]
    assert set(environment["git"] or {"commit": 0, "changed": 0}) == {"commit", "changed"}


def test_metrics_are_those_of_the_result(done: FitResult) -> None:
    metrics = read(done, "metrics.json")
    assert metrics["validation"] == done.metrics
    assert metrics["best_step"] == done.best_step
    assert (metrics["trained"], metrics["parameters"]) == (done.trained, done.parameters)
    assert metrics["speed"]["rows_per_second"] > 0
    assert metrics["speed"]["tokens_per_second"] > metrics["speed"]["rows_per_second"]


def test_the_curve_is_a_table_and_a_picture(done: FitResult) -> None:
    from PIL import Image

    assert done.folder is not None
    with (done.folder / "curve.csv").open() as file:
        lines = list(csv.DictReader(file))
    losses = [(int(line["step"]), float(line["loss"])) for line in lines if line["loss"]]
    scores = [(int(line["step"]), float(line["accuracy"])) for line in lines if line["accuracy"]]
    assert tuple(losses) == done.curve
    assert scores == [(step, metrics["accuracy"]) for step, metrics in done.scores]
    assert all(line["learning_rate"] and line["grad_norm"] for line in lines if line["loss"])
    with Image.open(done.folder / "curve.png") as picture:
        assert picture.size[0] >= 800
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 10  # something is drawn
    assert done.notes == ()


def test_without_matplotlib_it_says_that_the_picture_is_left_out(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "matplotlib" else real(name, *a))
    result = fit(tiny, sentences(8), recipe(max_steps=1), folder=tmp_path)
    assert not (tmp_path / "curve.png").exists()
    assert (tmp_path / "curve.csv").exists()
    assert "pip install 'deepseek[plots]'" in result.notes[0]
    assert json.loads((tmp_path / "metrics.json").read_text())["notes"] == list(result.notes)


def test_tensorboard_has_the_curves_and_the_recipe(done: FitResult) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert done.folder is not None
    events = EventAccumulator(str(done.folder / "tensorboard"))
    events.Reload()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars["train/loss"] == [(s, pytest.approx(v, rel=1e-6)) for s, v in done.curve]
    assert [s for s, _ in scalars["train/learning_rate"]] == [s for s, _ in done.curve]
    assert "train/grad_norm" in scalars
    assert scalars["eval/accuracy"] == [(s, pytest.approx(m["accuracy"])) for s, m in done.scores]
    text = events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| training.batch_size | 4 |" in text


def test_mlflow_has_metrics_and_parameters_and_goes_on_after_a_resume(
    tiny: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = recipe(tracking={"mlflow": uri, "experiment": "tests"}, checkpoint=2)
    task = settings.build_task()
    original, calls = type(task).collate_training, 0

    def interrupt(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(task), "collate_training", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny, sentences(12), settings, validation=sentences(6, seed=4), folder=tmp_path / "run")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    result = fit(tiny, sentences(12), settings, validation=sentences(6, seed=4), folder=tmp_path / "run", resume=True)
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["training.batch_size"] == "4"
    assert run.data.params["adapter.r"] == "2"
    losses = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "loss")}
    assert losses == dict(result.curve)
    scores = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "eval_accuracy")}
    assert scores == {step: metrics["accuracy"] for step, metrics in result.scores}


def test_nothing_is_tracked_unless_asked(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    fit(tiny, sentences(8), recipe(max_steps=1))
    assert not list(tmp_path.iterdir())


def test_trackers_that_cannot_be_used_are_refused(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(ConfigError, match="give fit a folder"):
        fit(tiny, sentences(8), recipe(tracking={"tensorboard": True}))
    with pytest.raises(ConfigError, match=r"tracking.mlflow: .* cannot be used"):
        fit(tiny, sentences(8), recipe(tracking={"mlflow": "http://127.0.0.1:9"}), folder=tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"deepseek\[tracking\]"):
        fit(tiny, sentences(8), recipe(tracking={"tensorboard": True}), folder=tmp_path)

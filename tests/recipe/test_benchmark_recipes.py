"""The recipes of GLUE and IMDB fit their data sets: columns, classes in the hub's order, the benchmark's metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepseek.data import datasets
from deepseek.data.datasets.glue_tasks import TASKS
from deepseek.recipe import Recipe, load_recipe, run_recipe
from deepseek.recipe.reader import shipped_recipes

GLUE = [name for name in TASKS if name != "glue-mnli-mismatched"]


def test_every_task_has_a_recipe() -> None:
    assert {*GLUE, "imdb"} <= set(shipped_recipes())


@pytest.mark.parametrize("name", [*GLUE, "imdb"])
def test_a_recipe_names_the_columns_and_classes_of_its_data(name: str) -> None:
    recipe, card = load_recipe(name), datasets.get(name)
    task = recipe.build_task()
    assert recipe.data.source == name
    assert recipe.data.clean is None
    assert {*task.input_columns, task.answer_column} <= set(card.columns)
    if name in TASKS:
        glue = TASKS[name]
        assert task.input_columns == tuple(glue.texts)
        assert getattr(task, "labels", ()) == glue.labels
        assert recipe.training.metric == glue.metrics[0]


@pytest.mark.parametrize("name", GLUE)
def test_the_benchmarks_metrics_are_among_the_tasks(name: str) -> None:
    task = load_recipe(name).build_task()
    labels = TASKS[name].labels
    rows = [{task.answer_column: value} for value in (labels or (1.0, 3.0))] * 3
    answers = [{"label": row["label"], "value": row["label"]} for row in rows]
    scores = task.metrics(answers, task.references(rows))
    for metric in TASKS[name].metrics:
        assert scores[metric] == pytest.approx(1)
        assert {f"{metric}_low", f"{metric}_high"} <= set(scores)


def parquet_folder(root: Path, name: str) -> None:
    task = TASKS[name]
    for split, stem in task.parquet.items():
        count = 48 if split == "train" else 8
        columns: dict[str, Any] = {text: [f"{split} {text} number {n}" for n in range(count)] for text in task.texts}
        values = [n % len(task.labels) for n in range(count)] if task.labels else [n % 6 for n in range(count)]
        columns["label"] = pa.array(
            [-1] * count if split == "test" else values, pa.int64() if task.labels else pa.float32()
        )
        columns["idx"] = pa.array(range(count), pa.int32())
        path = root / task.part / f"{stem}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a BERT of random weights, with a real tokenizer."""
    import transformers

    from deepseek.models import tokenizer_for

    folder = tmp_path_factory.mktemp("tiny") / "bert"
    sizes: dict[str, int] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(folder)
    tokenizer_for("all-minilm-l6-v2").save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", GLUE)
def test_a_recipe_runs_to_a_scored_bundle(
    name: str, tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet_folder(tmp_path / "glue", name)
    monkeypatch.setenv("DEEPSEEK_GLUE", str(tmp_path / "glue"))
    shipped = load_recipe(name).model_dump(mode="json")
    shipped["model"]["base"] = tiny_bert
    shipped["training"] |= {"epochs": 1, "precision": "float32"}
    result = run_recipe(Recipe.model_validate(shipped), tmp_path / "run")
    assert result.rows == {"train": 48, "validation": 8, "test": 8}
    assert result.held_out == "validation"
    assert result.training.steps == 2
    for metric in TASKS[name].metrics:
        assert result.bundle.manifest.metrics[f"{metric}_low"] <= result.metrics[metric]
    assert result.bundle.manifest.data.license == "see notes"

"""Run a recipe: rows into a cleaned table, the table into a trained model, the model into a bundle with its scores."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deepseek.artifacts.cache import write_text
from deepseek.bundles import Bundle, DataRecord, write_bundle
from deepseek.data import Table, ingest, open_source, profile
from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.models import from_pretrained, resolve, tokenizer_for
from deepseek.recipe.preparation import prepare
from deepseek.recipe.schema import Recipe
from deepseek.resources import Steps
from deepseek.training import FitResult, fit, tfidf_baseline

if TYPE_CHECKING:
    from deepseek.tasks.base import Task


@dataclass(frozen=True)
class RunResult:
    """What a run made.

    Attributes:
        folder: the run's folder (tables, bundle, recipe, metrics).
        bundle: the trained model.
        metrics: scores on the held-out rows.
        baseline: the baseline's scores on the same rows, empty if none was asked for.
        trainable, parameters: numbers of trained and of all weights.
        rows: rows per split after cleaning.
        cleaning: rejected rows by reason.
        steps: time and memory of each step.
        held_out: the split that the scores are of: ``validation`` where the test rows have no answers.
    """

    folder: Path
    bundle: Bundle
    metrics: dict[str, float]
    baseline: dict[str, float]
    trainable: int
    parameters: int
    rows: dict[str, int]
    cleaning: dict[str, int]
    steps: Steps
    training: FitResult
    held_out: str = "test"


def run_recipe(recipe: Recipe, folder: str | os.PathLike[str], *, resume: bool = False) -> RunResult:
    """Run ``recipe`` in ``folder``. An existing bundle there is replaced only when the new one is complete.

    Args:
        resume: continue training from the newest checkpoint of an interrupted run in the same folder.

    Raises:
        ConfigError: the recipe names a model or data that does not fit; before any work where that can be known.
        DataError: the rows cannot be used: an empty table, one class only, a missing column.
        FetchError: a named model or data set cannot be fetched.
    """
    target = Path(folder).expanduser()
    steps = Steps()
    task = recipe.build_task()
    if recipe.evaluation.baseline == "tfidf" and type(task).name != "text-classification":
        raise ConfigError(
            f"evaluation.baseline: tfidf is a baseline of text-classification, not of {type(task).name}; set it to none"
        )
    open_source(recipe.data.source)  # an unknown data set or file is an error before anything is fetched
    if resume:
        _check_same_recipe(recipe, target)
    target.mkdir(parents=True, exist_ok=True)
    write_text(
        target / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )

    with steps.step("fetch model") as step:
        checkpoint = resolve(recipe.model.base)
        step.note = checkpoint.name
    with steps.step("ingest") as step:
        ingested = ingest(recipe.data.source, target / "raw.lance", strict=recipe.data.strict, overwrite=True)
        raw = Table.open(target / "raw.lance")
        step.note = f"{len(raw):,} rows, version {raw.version}" + (
            f", {ingested.rejected:,} malformed" if ingested.rejected else ""
        )
    _check_columns(task, raw)
    label = task.answer_column
    with steps.step("clean and split") as step:
        prepared = prepare(
            raw, target, recipe.data.clean, recipe.data.split,
            text=task.input_columns, label=label, classes=task.class_column is not None,
        )  # fmt: skip
        if prepared.reports:
            write_text(target / "cleaning.json", json.dumps(prepared.reports, indent=2, ensure_ascii=False))
        table = prepared.table
        rejected = sum(prepared.reasons.values())
        step.note = f"{len(table):,} rows kept, {rejected:,} rejected"

    train = list(table.rows(where="split = 'train'"))
    held_out, test = _held_out(table, label)
    if not train or not test:
        raise DataError(
            f"expected rows to train on and rows to test on (in split 'test', or 'validation' where test rows have no "
            f"answers) after cleaning, received {len(train)} and {len(test)}; "
            f"check data.split and {target / 'clean.rejects.lance'}"
        )
    task = task.fitted(train)

    baseline: dict[str, float] = {}
    if recipe.evaluation.baseline == "tfidf":
        with steps.step("baseline") as step:
            baseline = tfidf_baseline(task, train, test, seed=recipe.seed)  # type: ignore[arg-type]
            step.note = f"TF-IDF + logistic regression: {baseline['accuracy']:.1%}"

    with steps.step("load model") as step:
        from transformers import set_seed

        set_seed(recipe.seed)  # before loading: a fresh head starts from random weights
        model = from_pretrained(checkpoint, head=type(task).head, **task.model_options())
        tokenizer = tokenizer_for(checkpoint)
        if recipe.adapter is not None:
            model.add_adapter(recipe.adapter.name, recipe.adapter.lora())
        trainable, parameters = model.count_parameters()
        step.note = f"{trainable:,} of {parameters:,} weights train ({trainable / parameters:.2%})"
    checkpoints = target / "checkpoints"
    if not resume:
        shutil.rmtree(checkpoints, ignore_errors=True)  # an older run's would be of another model
    with steps.step("train") as step:
        trained = fit(model, train, recipe, tokenizer=tokenizer, folder=checkpoints, resume=resume)
        step.note = f"{trained.steps} steps in {trained.precision}, loss {trained.loss:.3f}"
    with steps.step("evaluate") as step:
        metrics = _score(model, tokenizer, task, test)
        metric = recipe.training.metric or task.main_metric
        step.note = f"{metric} {metrics[metric]:.3f} on {len(test):,} {held_out} rows" if metric in metrics else ""
    with steps.step("write bundle") as step:
        bundle = write_bundle(
            target / "bundle",
            model=model,
            tokenizer=tokenizer,
            task=task,
            name=recipe.name,
            base_model=checkpoint.name,
            license=recipe.license,
            metrics=metrics,
            data=DataRecord(
                source=recipe.data.source,
                license=raw.metadata.get("license", ""),
                table_version=table.version,
                fingerprint=table.fingerprint(),
                rows=_counts(table),
            ),
            reference=profile(table, columns=[*task.input_columns, *([label] if label else [])]),
            recipe=recipe.model_dump(mode="json"),
            overwrite=True,
        )
        step.note = f"{sum(f.size for f in bundle.manifest.files.values()) / 1e6:.0f} MB"
    shutil.rmtree(checkpoints, ignore_errors=True)  # the bundle has all that they had
    return RunResult(
        folder=target, bundle=bundle, metrics=metrics, baseline=baseline, trainable=trainable, parameters=parameters,
        rows=_counts(table), cleaning=prepared.reasons, steps=steps, training=trained,
        held_out=held_out,
    )  # fmt: skip


def _score(model: Any, tokenizer: Any, task: Task, rows: list[dict[str, Any]]) -> dict[str, float]:
    from deepseek.inference import Predictor, evaluate
    from deepseek.inference.torch_runtime import TorchModel

    return evaluate(Predictor(name="trained", task=task, tokenizer=tokenizer, model=TorchModel(model)), rows)


def _held_out(table: Table, label: str | None) -> tuple[str, list[dict[str, Any]]]:
    """The rows to score on, and the split that they are of: benchmarks keep the answers of their test rows secret."""
    for split in ("test", "validation"):
        rows = [row for row in table.rows(where=f"split = '{split}'") if label is None or row[label] is not None]
        if rows:
            return split, rows
    return "test", []


def _check_columns(task: Task, table: Table) -> None:
    for column in (*task.input_columns, *([task.answer_column] if task.answer_column else [])):
        if column not in table.columns:
            raise UnknownNameError("column", column, table.columns, hint="Name the right one in the recipe's task.")


def _counts(table: Table) -> dict[str, int]:
    counted = table.to_arrow(columns=["split"]).group_by("split").aggregate([("split", "count")]).to_pylist()
    found = {str(row["split"]): int(row["split_count"]) for row in counted}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _check_same_recipe(recipe: Recipe, folder: Path) -> None:
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no interrupted run in {folder} to resume; leave out --resume")
    if yaml.safe_load(path.read_text(encoding="utf-8")) != recipe.model_dump(mode="json"):
        raise ConfigError(
            f"the run in {folder} was started with another recipe; resume with {path}, or choose another folder"
        )

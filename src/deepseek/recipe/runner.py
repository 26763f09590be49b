"""Run a recipe: rows into a cleaned table, the table into a trained model, the model into a bundle with its scores."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.bundles import Bundle, DataRecord, write_bundle
from deepseek.data import Table, profile
from deepseek.errors import ConfigError, DataError
from deepseek.models import from_pretrained, processor_for
from deepseek.recipe.pretraining import check_pretraining, pretrained
from deepseek.recipe.schema import Recipe
from deepseek.recipe.stages import Ready, make_ready, remove
from deepseek.resources import Steps
from deepseek.training import FitResult, fit, tfidf_baseline

if TYPE_CHECKING:
    from deepseek.tasks.base import Task


@dataclass(frozen=True)
class RunResult:
    """What a run made.

    Attributes:
        folder: the run's folder (tables, bundle, recipe, training).
        bundle: the trained model.
        metrics: scores on the held-out rows.
        baseline: the baseline's scores on the same rows, empty if none was asked for.
        trainable, parameters: numbers of trained and of all weights.
        rows: rows per split after cleaning.
        cleaning: rejected rows by reason.
        steps: time and memory of each step.
        training: how the training went.
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
        TrainingError: a loss was no number, or memory did not suffice; ``resume`` goes on from the last checkpoint.
    """
    target = Path(folder).expanduser()
    steps = Steps()
    _check_baseline(recipe)
    check_pretraining(recipe)
    ready = make_ready(recipe, target, steps, resume=resume)
    table, task = ready.table, ready.task
    held_out, test = _held_out(ready)

    baseline: dict[str, float] = {}
    if recipe.evaluation.baseline == "tfidf":
        with steps.step("baseline") as step:
            train = list(table.rows(where="split = 'train'"))
            baseline = tfidf_baseline(task, train, test, seed=recipe.seed)  # type: ignore[arg-type]
            step.note = f"TF-IDF + logistic regression: {baseline['accuracy']:.1%}"

    base = ready.checkpoint
    if recipe.pretraining is not None:
        with steps.step("pre-train") as step:
            base = pretrained(ready.checkpoint, table, recipe, target, resume=resume)
            step.note = f"{recipe.pretraining.training.epochs:g} epochs of the training texts, in {base.path.name}/"
    with steps.step("load model") as step:
        from transformers import set_seed

        set_seed(recipe.seed)  # before loading: a fresh head starts from random weights
        model = from_pretrained(
            base, head=type(task).head, quantization=recipe.model.quantization, **task.model_options()
        )
        processor = processor_for(base, type(task).processor)
        step.note = f"{model.count_parameters()[1]:,} weights"
    if not resume:
        remove(target, "training")  # an older run's checkpoints would be of another model
    with steps.step("train") as step:
        trained = fit(model, table, recipe, tokenizer=processor, folder=target / "training", resume=resume)
        model = trained.model
        step.note = (
            f"{trained.steps} steps in {trained.precision}, loss {trained.loss:.3f}, {trained.trained:,} of "
            f"{trained.parameters:,} weights"
        )
    with steps.step("evaluate") as step:
        metrics = _score(model, processor, task, test)
        main = recipe.training.metric or task.main_metric
        step.note = f"{main} {metrics[main]:.4g} on {len(test):,} {held_out} rows" if main in metrics else ""
    with steps.step("write bundle") as step:
        bundle = write_bundle(
            target / "bundle",
            model=model,
            tokenizer=processor,
            task=task,
            name=recipe.name,
            base_model=ready.checkpoint.name if recipe.model.base is not None else "",
            license=recipe.license,
            metrics=metrics,
            data=DataRecord(
                source=recipe.data.source,
                license=ready.raw.metadata.get("license", ""),
                table_version=table.version,
                fingerprint=table.fingerprint(),
                rows=ready.rows,
            ),
            reference=profile(table, columns=_profiled(task, table)),
            recipe=recipe.model_dump(mode="json"),
            overwrite=True,
        )
        step.note = f"{sum(f.size for f in bundle.manifest.files.values()) / 1e6:.0f} MB"
    remove(target, "training/checkpoints", "training/encoded", "training/states")  # the bundle has all that they had
    return RunResult(
        folder=target, bundle=bundle, metrics=metrics, baseline=baseline, trainable=trained.trained,
        parameters=trained.parameters, rows=ready.rows, cleaning=ready.prepared.reasons, steps=steps, training=trained,
        held_out=held_out,
    )  # fmt: skip


def _check_baseline(recipe: Recipe) -> None:
    name = recipe.task.get("name")
    if recipe.evaluation.baseline == "tfidf" and name != "text-classification":
        raise ConfigError(
            f"evaluation.baseline: tfidf is a baseline of text-classification, not of {name}; set it to none"
        )


def _score(model: Any, processor: Any, task: Task, rows: list[dict[str, Any]]) -> dict[str, float]:
    from deepseek.inference import Predictor, evaluate
    from deepseek.inference.torch_runtime import TorchModel

    return evaluate(Predictor(name="trained", task=task, tokenizer=processor, model=TorchModel(model)), rows)


def _held_out(ready: Ready) -> tuple[str, list[dict[str, Any]]]:
    """The rows to score on, and the split that they are of: benchmarks keep the answers of their test rows secret."""
    label = ready.task.answer_column
    for split in ("test", "validation"):
        found = ready.table.rows(where=f"split = '{split}'")
        rows = [row for row in found if label is None or row[label] is not None]
        if rows:
            return split, rows
    raise DataError(
        f"expected rows to test on (in split 'test', or 'validation' where test rows have no answers) after cleaning, "
        f"received {ready.rows}; check data.split and {ready.prepared.table.path}"
    )


def _profiled(task: Task, table: Table) -> list[str]:
    label = task.answer_column
    return [c for c in (*task.input_columns, *([label] if label else [])) if c in table.columns]

"""Run a recipe: rows into a cleaned table, the table into a trained model, the model into a bundle with its scores."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.bundles import Bundle, DataRecord, write_bundle
from deepseek.data import profile
from deepseek.errors import DataError
from deepseek.models import from_pretrained, tokenizer_for
from deepseek.recipe.schema import Recipe
from deepseek.recipe.stages import make_ready, remove
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
    ready = make_ready(recipe, target, steps, resume=resume)
    table, task = ready.table, ready.task
    test = list(table.rows(where="split = 'test'"))
    if not test:
        raise DataError(
            f"expected rows to test on after cleaning, received {ready.rows}; check data.split and "
            f"{target / 'clean.rejects.lance'}"
        )

    baseline: dict[str, float] = {}
    if recipe.evaluation.baseline == "tfidf":
        with steps.step("baseline") as step:
            train = list(table.rows(where="split = 'train'"))
            baseline = tfidf_baseline(task, train, test, seed=recipe.seed)  # type: ignore[arg-type]
            step.note = f"TF-IDF + logistic regression: {baseline['accuracy']:.1%}"

    with steps.step("load model") as step:
        from transformers import set_seed

        set_seed(recipe.seed)  # before loading: a fresh head starts from random weights
        model = from_pretrained(ready.checkpoint, head=type(task).head, **task.model_options())
        tokenizer = tokenizer_for(ready.checkpoint)
        if recipe.adapter is not None:
            model.add_adapter(recipe.adapter.name, recipe.adapter.lora())
        trainable, parameters = model.count_parameters()
        step.note = f"{trainable:,} of {parameters:,} weights train ({trainable / parameters:.2%})"
    if not resume:
        remove(target, "training")  # an older run's checkpoints would be of another model
    with steps.step("train") as step:
        trained = fit(model, table, recipe, tokenizer=tokenizer, folder=target / "training", resume=resume)
        step.note = f"{trained.steps} steps in {trained.precision}, loss {trained.loss:.3f}"
    with steps.step("evaluate") as step:
        metrics = _score(model, tokenizer, task, test)
        step.note = f"accuracy {metrics['accuracy']:.1%}" if "accuracy" in metrics else ""
    with steps.step("write bundle") as step:
        bundle = write_bundle(
            target / "bundle",
            model=model,
            tokenizer=tokenizer,
            task=task,
            name=recipe.name,
            base_model=ready.checkpoint.name,
            license=recipe.license,
            metrics=metrics,
            data=DataRecord(
                source=recipe.data.source,
                license=ready.raw.metadata.get("license", ""),
                table_version=table.version,
                fingerprint=table.fingerprint(),
                rows=ready.rows,
            ),
            reference=profile(table, columns=_profiled(task)),
            recipe=recipe.model_dump(mode="json"),
            overwrite=True,
        )
        step.note = f"{sum(f.size for f in bundle.manifest.files.values()) / 1e6:.0f} MB"
    remove(target, "training/checkpoint-*")  # the bundle has all that they had
    return RunResult(
        folder=target, bundle=bundle, metrics=metrics, baseline=baseline, trainable=trainable, parameters=parameters,
        rows=ready.rows, cleaning=ready.prepared.reasons, steps=steps, training=trained,
    )  # fmt: skip


def _score(model: Any, tokenizer: Any, task: Task, rows: list[dict[str, Any]]) -> dict[str, float]:
    from deepseek.inference import Predictor, evaluate
    from deepseek.inference.torch_runtime import TorchModel

    return evaluate(Predictor(name="trained", task=task, tokenizer=tokenizer, model=TorchModel(model)), rows)


def _profiled(task: Task) -> list[str]:
    label = getattr(task, "label", None)
    return [task.text_columns[0], *([label] if label else [])]

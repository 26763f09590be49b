"""``fit`` on several workers: what the driver hands over, what a worker does with it, and what comes back.

Driver: the fitted task, the encoded rows, validation rows, the tokenizer and the model (its name, or its files) in a
job folder. Worker: ``fit`` on that. Back: the trained weights and the figures of the run.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.artifacts.cache import write_text
from deepseek.errors import DataError
from deepseek.tasks import TASKS
from deepseek.training.distributed import ranks
from deepseek.training.distributed.config import DistributedConfig
from deepseek.training.distributed.launch import ADVICE, run_workers
from deepseek.training.distributed.model_files import (
    load_trained,
    read_model,
    trained_state,
    write_model,
    write_trained,
)
from deepseek.training.distributed.strategy import check_strategy
from deepseek.training.recipe import TrainingRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepseek.tasks.base import Task

JOB = "distributed"
"""The folder of a job inside the run folder."""


@dataclass(frozen=True)
class EncodedRows:
    """Training rows that are encoded already, with the task that was fitted to them: what workers give to ``fit``."""

    task: Task
    features: Sequence[dict[str, Any]]


def launches(config: DistributedConfig | None) -> bool:
    """Whether ``fit`` in this process has to start workers: several are asked for and none was started yet."""
    return config is not None and not ranks.launched()


def fit_on_workers(
    recipe: TrainingRecipe,
    *,
    task: Task,
    model: PreTrainedModel,
    source: str | None,
    tokenizer: Any,
    features: Sequence[Mapping[str, Any]],
    validation: Sequence[Mapping[str, Any]] | None = None,
    folder: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train ``model`` in place with the workers that ``recipe.training.distributed`` asks for.

    Args:
        recipe: with the settings that hold for the run.
        model: as a single process would train it, its adapter added.
        source: the checkpoint's name or path, from which workers load it; ``None`` hands over the model's weights.
        features: the encoded rows.
        folder: the run folder; ``None`` keeps nothing, so that a run that failed cannot be resumed.

    Returns:
        What the main worker's ``FitResult`` says, but for model, task and tokenizer.

    Raises:
        EngineError: a worker died; see :func:`run_workers`.
        ConfigError, DataError: the strategy's options are wrong, or the rows cannot be handed over.
    """
    config = recipe.training.distributed
    assert config is not None
    check_strategy(config)
    with _job_folder(folder) as job:
        payload = {
            "recipe": json.loads(TrainingRecipe.model_validate(_training_part(recipe)).model_dump_json()),
            "task": {"name": task.name, **task.model_dump(mode="json")},
            "model": {"name": source} if source is not None else {"files": str(job / "model")},
            "tokenizer": str(job / "tokenizer") if tokenizer is not None else None,
            "features": str(job / "features.arrow"),
            "validation": str(job / "validation.arrow") if validation is not None else None,
            "folder": str(folder.resolve()) if folder is not None else None,
            "resume": resume,
            "job": str(job),
        }
        if source is None:
            write_model(model, job / "model")
        if tokenizer is not None:
            tokenizer.save_pretrained(job / "tokenizer")
        write_rows(features, job / "features.arrow")
        if validation is not None:
            write_rows(validation, job / "validation.arrow")
        advice = ADVICE if folder is not None else "Nothing was kept: give fit a folder to be able to resume."
        result = run_workers(
            config,
            f"{__name__}:train",
            payload,
            folder=job,
            logs=(folder or job) / "logs",
            advice=advice,
        )
        load_trained(model, job)
    pairs = {name: tuple(map(tuple, result[name])) for name in ("curve", "scores") if name in result}
    return {**result, **pairs}


def train(payload: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """A worker's part; see :func:`fit_on_workers`. ``resume``: after a restart."""
    from deepseek.training.fine_tuning import fit

    settings = dict(payload["task"])
    task = TASKS.get(settings.pop("name"))(**settings)
    model: Any = payload["model"].get("name") or read_model(payload["model"]["files"])
    validation = payload["validation"]
    result = fit(
        model,
        EncodedRows(task, ArrowRows(Path(payload["features"]))),
        TrainingRecipe.model_validate(payload["recipe"]),
        validation=list(ArrowRows(Path(validation))) if validation else None,
        tokenizer=_tokenizer(payload["tokenizer"], task) if payload["tokenizer"] else None,
        folder=payload["folder"],
        resume=resume or payload["resume"],
    )
    if ranks.is_main():
        write_trained(trained_state(result.model), payload["job"])
    figures = {name: getattr(result, name) for name in type(result).__dataclass_fields__}
    return {k: v for k, v in figures.items() if k not in {"model", "task", "tokenizer"}}


class ArrowRows(Sequence[dict[str, Any]]):
    """Rows of an Arrow file, memory-mapped: workers of one machine share the pages."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        with pa.memory_map(str(path)) as source:
            self._table = pa.ipc.open_file(source).read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: Any) -> Any:
        row = self._table.slice(range(len(self))[index], 1).to_pylist()[0]
        return {name: value for name, value in row.items() if value is not None}


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of strings, numbers, bytes and lists of them as an Arrow file.

    Raises:
        DataError: a column has other values, or values of several kinds.
    """
    import pyarrow as pa

    try:
        names = dict.fromkeys(name for row in rows for name in row)
        table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        raise DataError(
            f"rows for several workers have to be strings, numbers, bytes or lists, one kind a column: {error}"
        ) from error
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=65536)


def _training_part(recipe: TrainingRecipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in TrainingRecipe.model_fields}


def _tokenizer(folder: str, task: Task) -> Any:
    import transformers

    if task.processor == "image-processor":
        return transformers.AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


@contextmanager
def _job_folder(folder: Path | None) -> Iterator[Path]:
    """A folder for what driver and workers exchange; kept after a failure (a run folder's), gone after success."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="deepseek-job-") as name:
            yield Path(name)
        return
    job = folder.resolve() / JOB
    shutil.rmtree(job, ignore_errors=True)
    job.mkdir(parents=True)
    yield job
    shutil.rmtree(job, ignore_errors=True)


__all__ = ["ArrowRows", "EncodedRows", "fit_on_workers", "launches", "train", "write_rows"]

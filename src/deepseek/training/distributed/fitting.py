"""``fit`` on several workers: what the driver hands over, what a worker does with it, and what comes back.

Driver: the recipe, the rows (a table's path and version, or an Arrow file), the tokenizer and the model (its name, or
its files) in a job folder. Worker: ``fit`` on that, as under any launcher. Back: the fitted task, the trained weights
and the figures of the run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import DataError
from deepseek.tasks import TASKS
from deepseek.training.distributed import ranks
from deepseek.training.distributed.config import DistributedConfig
from deepseek.training.distributed.launch import ADVICE, run_workers
from deepseek.training.distributed.model_files import (
    load_state,
    read_model,
    read_trained,
    trained_state,
    write_model,
    write_trained,
)
from deepseek.training.distributed.strategy import check_strategy
from deepseek.training.encoding.row_source import opened_table
from deepseek.training.recipe import TrainingRecipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from deepseek.tasks.base import Task

JOB = "distributed"
"""The folder of a job inside the run folder; there only while it runs, and after a failure."""


@dataclass(frozen=True)
class WorkersResult:
    """What the workers made.

    Attributes:
        task: the task, fitted to the rows.
        figures: the fields of the main worker's ``FitResult``, but for model, task and tokenizer.
        state: the trained weights by name.
    """

    task: Task
    figures: dict[str, Any]
    state: dict[str, torch.Tensor]

    def load(self, model: PreTrainedModel) -> None:
        """Put the trained weights into ``model``, which has the adapter that was trained (with any weights)."""
        load_state(model, self.state, whole=False)


def launches(config: DistributedConfig | None) -> bool:
    """Whether ``fit`` in this process has to start workers: they are asked for, and no launcher started it."""
    return config is not None and not ranks.launched()


def fit_on_workers(
    model: PreTrainedModel | str | os.PathLike[str],
    table: Any,
    recipe: TrainingRecipe,
    *,
    validation: Any = None,
    tokenizer: Any = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> WorkersResult:
    """Train with the workers that ``recipe.training.distributed`` asks for; the arguments are those of ``fit``.

    A loaded ``model`` is left as it is until :meth:`WorkersResult.load`.

    Raises:
        EngineError: a worker died; see :func:`run_workers`.
        ConfigError, MissingExtraError: the strategy's options or the model cannot be used so; nothing was started.
        DataError: the rows cannot be written to an Arrow file; nothing was started.
        DeepSeekError: what ``fit`` raised in a worker.
    """
    config = recipe.training.distributed
    assert config is not None
    check_strategy(config)
    home = Path(folder).expanduser().resolve() if folder is not None else None
    named = isinstance(model, str | os.PathLike)
    with _job_folder(home) as job:
        payload = {
            "recipe": {name: _plain(getattr(recipe, name)) for name in TrainingRecipe.model_fields},
            "model": {"name": _absolute(model)} if named else {"files": str(job / "model")},
            "rows": _hand_over(table, job / "rows.arrow"),
            "validation": _hand_over(validation, job / "validation.arrow") if validation is not None else None,
            "tokenizer": str(job / "tokenizer") if tokenizer is not None else None,
            "folder": str(home) if home is not None else None,
            "resume": resume,
            "job": str(job),
        }
        if not named:
            write_model(model, job / "model")
        if tokenizer is not None:
            tokenizer.save_pretrained(job / "tokenizer")
        advice = ADVICE if home is not None else "Nothing was kept: give fit a folder to be able to resume."
        figures = run_workers(
            config, f"{__name__}:train", payload, folder=job, logs=(home or job) / "logs", advice=advice
        )
        state = read_trained(job)
    task = _task(figures.pop("task"))
    lists = {name: _tuples(value) for name, value in figures.items() if isinstance(value, list)}
    places = {"folder": Path(figures["folder"])} if figures.get("folder") else {}
    return WorkersResult(task, {**figures, **lists, **places}, state)


def train(payload: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """A worker's part; see :func:`fit_on_workers`. ``resume``: after a restart."""
    from deepseek.training.fine_tuning import fit

    recipe = TrainingRecipe.model_validate(payload["recipe"])
    result = fit(
        payload["model"].get("name") or read_model(payload["model"]["files"]),
        _taken_over(payload["rows"]),
        recipe,
        validation=_taken_over(payload["validation"]) if payload["validation"] else None,
        tokenizer=_tokenizer(payload["tokenizer"], recipe.build_task()) if payload["tokenizer"] else None,
        folder=payload["folder"],
        resume=payload["resume"] or (resume and payload["folder"] is not None),
    )
    if ranks.is_main():
        write_trained(trained_state(result.model), payload["job"])
    figures = {name: getattr(result, name) for name in type(result).__dataclass_fields__}
    task = {"name": result.task.name, **result.task.model_dump(mode="json")}
    kept = {k: v for k, v in figures.items() if k not in {"model", "task", "tokenizer"}}
    return {**{k: str(v) if isinstance(v, Path) else v for k, v in kept.items()}, "task": task}


class ArrowRows(Sequence[dict[str, Any]]):
    """Rows of an Arrow file, memory-mapped: workers of one machine share the pages."""

    def __init__(self, path: str | Path) -> None:
        import pyarrow as pa

        with pa.memory_map(str(path)) as source:
            self._table = pa.ipc.open_file(source).read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return dict(self._table.slice(range(len(self))[index], 1).to_pylist()[0])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._table.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of strings, numbers, bytes and lists of them as an Arrow file; a key that a row lacks is null.

    Raises:
        DataError: a column has other values, or values of several kinds.
    """
    import pyarrow as pa

    listed = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
    columns: dict[str, Any] = {}
    for number, row in enumerate(listed):
        if not isinstance(row, Mapping):
            raise DataError(f"row {number}: expected a dict, received {type(row).__name__}")
        columns.update(dict.fromkeys(row))
    for name in columns:
        try:
            columns[name] = pa.array([row.get(name) for row in listed])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError) as error:
            raise DataError(
                f"column {name!r} cannot be handed to workers: expected strings, numbers, bytes or lists, of one kind "
                f"in all rows; {error}"
            ) from error
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=65536)


def _hand_over(rows: Any, path: Path) -> dict[str, Any]:
    if (table := opened_table(rows)) is not None:
        return {"table": table.path, "version": table.version}
    write_rows(rows, path)
    return {"arrow": str(path)}


def _taken_over(place: Mapping[str, Any]) -> Any:
    if "arrow" in place:
        return ArrowRows(place["arrow"])
    from deepseek.data import Table

    return Table.open(place["table"], version=place["version"])


def _task(settings: Mapping[str, Any]) -> Task:
    return TASKS.get(settings["name"])(**{k: v for k, v in settings.items() if k != "name"})


def _tokenizer(folder: str, task: Task) -> Any:
    import transformers

    kind = transformers.AutoImageProcessor if task.processor == "image-processor" else transformers.AutoTokenizer
    return kind.from_pretrained(folder, trust_remote_code=False)


def _absolute(name: Any) -> str:
    """A model's folder as an absolute path, since workers may start elsewhere; other names as they are."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else os.fspath(name)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


@contextmanager
def _job_folder(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="deepseek-job-") as name:
            yield Path(name).resolve()
        return
    job = folder / JOB
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(job)
    job.mkdir(parents=True)
    yield job
    shutil.rmtree(job)

"""The steps that training, planning and searching share: fetch, ingest, clean and split."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from deepseek.artifacts.cache import write_text
from deepseek.data import Table, ingest, open_source
from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.models import Checkpoint, resolve
from deepseek.recipe.preparation import Prepared, prepare
from deepseek.recipe.schema import Recipe
from deepseek.recipe.scratch import check_scratch, from_scratch
from deepseek.resources import Steps
from deepseek.tasks.base import Task

RECIPE = "recipe.yaml"
PREPARED = "prepared.json"


@dataclass(frozen=True)
class Ready:
    """What training starts from.

    Attributes:
        checkpoint: the base model, on this machine.
        task: the task, with what it learned from the training rows.
        raw: the rows as they came.
        prepared: the cleaned rows with their splits, and what was rejected.
        rows: rows per split.
    """

    checkpoint: Checkpoint
    task: Task
    raw: Table
    prepared: Prepared
    rows: dict[str, int]

    @property
    def table(self) -> Table:
        """The cleaned rows."""
        return self.prepared.table


def make_ready(recipe: Recipe, folder: Path, steps: Steps, *, resume: bool = False) -> Ready:
    """Fetch the model and the rows, clean and split them in ``folder``; a model from scratch is made there.

    Raises:
        ConfigError: the recipe names a model or data that does not fit, or the folder belongs to another recipe.
        DataError: the rows cannot be used: an empty table, one class only, a missing column.
        FetchError: a named model or data set cannot be fetched.
    """
    task = recipe.build_task()
    check_scratch(recipe)
    open_source(recipe.data.source)  # an unknown data set or file is an error before anything is fetched
    if resume:
        _check_same_recipe(recipe, folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(folder / RECIPE, document)

    checkpoint = None
    if recipe.model.base is not None:
        with steps.step("fetch model") as step:
            checkpoint = resolve(recipe.model.base)
            step.note = checkpoint.name
    found = _prepared_before(folder) if resume else None
    raw, prepared = found if found is not None else _prepare_rows(recipe, task, folder, steps)
    rows = _counts(prepared.table)
    if not rows.get("train"):
        raise DataError(
            f"expected rows to train on after cleaning, received {rows}; check data.split and "
            f"{folder / 'clean.rejects.lance'}"
        )
    if type(task).fitted is not Task.fitted:  # or there is nothing to learn from a corpus that may be large
        task = task.fitted(list(prepared.table.rows(where="split = 'train'")))
    if checkpoint is None:
        with steps.step("make model") as step:
            checkpoint = from_scratch(recipe, task, prepared.table, folder, resume=resume)
            step.note = f"random weights and a tokenizer, in {checkpoint.path.name}/"
    return Ready(checkpoint, task, raw, prepared, rows)


def _prepare_rows(recipe: Recipe, task: Task, folder: Path, steps: Steps) -> tuple[Table, Prepared]:
    """Ingest, clean and split; what came of it is noted in the folder, for a run that is resumed."""
    remove(folder, PREPARED)
    with steps.step("ingest") as step:
        ingested = ingest(recipe.data.source, folder / "raw.lance", strict=recipe.data.strict, overwrite=True)
        raw = Table.open(folder / "raw.lance")
        step.note = f"{len(raw):,} rows, version {raw.version}" + (
            f", {ingested.rejected:,} malformed" if ingested.rejected else ""
        )
    _check_columns(task, raw)
    with steps.step("clean and split") as step:
        prepared = prepare(
            raw, folder, recipe.data.clean, recipe.data.split,
            text=task.input_columns, label=task.answer_column, classes=task.class_column is not None,
        )  # fmt: skip
        if prepared.reports:
            write_text(folder / "cleaning.json", json.dumps(prepared.reports, indent=2, ensure_ascii=False))
        rejected = sum(prepared.reasons.values())
        step.note = f"{len(prepared.table):,} rows kept, {rejected:,} rejected"
    places = {
        name: {"table": Path(table.path).name, "version": table.version}
        for name, table in (("raw", raw), ("clean", prepared.table))
    }
    write_text(folder / PREPARED, json.dumps({**places, "reasons": prepared.reasons}, indent=2) + "\n")
    return raw, prepared


def _prepared_before(folder: Path) -> tuple[Table, Prepared] | None:
    """The rows as the interrupted run prepared them: it goes on with those, whatever became of their source."""
    try:
        noted = json.loads((folder / PREPARED).read_text(encoding="utf-8"))
    except OSError:
        return None
    raw, clean = (
        Table.open(folder / noted[name]["table"], version=noted[name]["version"]) for name in ("raw", "clean")
    )
    reports = folder / "cleaning.json"
    read = json.loads(reports.read_text(encoding="utf-8")) if reports.is_file() else []
    return raw, Prepared(clean, noted["reasons"], read)


def remove(folder: Path, *names: str) -> None:
    """Remove parts of a run folder, if they are there."""
    for name in names:
        for path in folder.glob(name):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _check_columns(task: Task, table: Table) -> None:
    for column in (*task.input_columns, *([task.answer_column] if task.answer_column else [])):
        if column not in table.columns:
            raise UnknownNameError("column", column, table.columns, hint="Name the right one in the recipe's task.")


def _counts(table: Table) -> dict[str, int]:
    counted = table.to_arrow(columns=["split"]).group_by("split").aggregate([("split", "count")]).to_pylist()
    found = {str(row["split"]): int(row["split_count"]) for row in counted}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _check_same_recipe(recipe: Recipe, folder: Path) -> None:
    path = folder / RECIPE
    if not path.is_file():
        raise ConfigError(f"there is no interrupted run in {folder} to resume; leave out --resume")
    if yaml.safe_load(path.read_text(encoding="utf-8")) != recipe.model_dump(mode="json"):
        raise ConfigError(
            f"the run in {folder} was started with another recipe; resume with {path}, or choose another folder"
        )

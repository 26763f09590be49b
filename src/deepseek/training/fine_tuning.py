"""``fit``: a model, a table and a recipe in; a trained model out."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deepseek import progress
from deepseek.errors import ConfigError
from deepseek.tasks.base import LABELS
from deepseek.training.distributed.fitting import fit_on_workers, launches
from deepseek.training.distributed.ranks import agreed, is_main, launched
from deepseek.training.distributed.strategy import strategy_arguments
from deepseek.training.encoding.limits import ModelLimits
from deepseek.training.encoding.row_source import Rows, RowSource, split_rows
from deepseek.training.encoding.writing import check_scorable
from deepseek.training.frozen.trunk import prepare_trunk
from deepseek.training.loop.arguments import has_gpu, training_device, uses_bfloat16
from deepseek.training.loop.checkpoints import checkpoints
from deepseek.training.loop.class_weighting import class_weights
from deepseek.training.loop.kept_states import kept_states, settler
from deepseek.training.loop.padding import RoundedPadding
from deepseek.training.loop.processes import connect, on_main
from deepseek.training.loop.scoring import score
from deepseek.training.loop.trained_part import choose_trained
from deepseek.training.loop.training_run import Outcome, TrainingRun, train
from deepseek.training.planned import planned
from deepseek.training.recipe import TrainingRecipe
from deepseek.training.runs.curves import write_curve_csv, write_curves
from deepseek.training.runs.folder import RunFolder, data_record
from deepseek.training.runs.tracking import trackers
from deepseek.training.setup import encoded_rows, loaded_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepseek.tasks.base import Task
    from deepseek.training.planning import Plan


@dataclass(frozen=True)
class FitResult:
    """What training made and did.

    Attributes:
        model, task, tokenizer: the trained model, and the task with all that it learned from the rows.
        steps: optimiser steps.
        loss: mean training loss.
        curve: training loss as (step, mean loss since the point before).
        precision: ``"float32"`` or ``"bfloat16"``.
        scores: validation scores as (step, metrics), if rows were scored.
        best_step: the step whose weights the model has, if rows were scored.
        metrics: the validation scores of those weights.
        plan: what the planner chose and foretold, if the recipe asked for a plan.
        trained, parameters: numbers of trained and of all weights.
        folder: the run folder.
        notes: what was left out, and how to get it.
        speed: of this call (not compared: they vary): ``seconds`` of the training loop, ``rows_per_second``,
            ``tokens_per_second``, and ``run_seconds``, from encoded rows to the trained model: what a plan foretells.
    """

    model: PreTrainedModel
    task: Task
    tokenizer: Any
    steps: int
    loss: float
    curve: tuple[tuple[int, float], ...]
    precision: str
    scores: tuple[tuple[int, dict[str, float]], ...] = ()
    best_step: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    plan: Plan | None = None
    trained: int = 0
    parameters: int = 0
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    speed: dict[str, float] = field(default_factory=dict, compare=False)


def fit(
    model: PreTrainedModel | str | os.PathLike[str],
    table: Rows,
    recipe: TrainingRecipe,
    *,
    validation: Rows | None = None,
    tokenizer: Any = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_score: Callable[[int, dict[str, float]], None] | None = None,
) -> FitResult:
    """Train ``model`` on the rows of ``table`` as ``recipe`` says.

    Under a launcher (``torchrun``, ``accelerate launch``) each process calls this; ``batch_size`` is that of all.

    Args:
        model: a name or path (:func:`deepseek.models.resolve`), or a loaded model with the head that the task needs;
            a loaded model is trained in place.
        table: a table, the path of one, an Arrow table, a pandas ``DataFrame`` or a sequence of dicts. Where
            rows have a ``split`` column, ``train`` rows are trained on and ``validation`` rows are scored; others are
            left alone.
        recipe: task, adapter and training settings (:class:`TrainingRecipe`, or a whole ``Recipe``).
        validation: rows to score instead of the table's own (those whose ``split`` is ``validation``, if there are
            any, else all of them).
        tokenizer: tokenizer or image processor; ``None`` loads the model's own.
        folder: the run folder: recipe, data version, environment, metrics, curves, checkpoints; ``None`` keeps
            nothing. Without ``resume``, an older run in it is replaced.
        resume: continue from the newest checkpoint in that folder, if there is one; on a CPU, to the bit.
        on_score: called as ``on_score(step, metrics)`` after each scoring, in the main process; what it raises ends the
            training. With workers that ``fit`` starts itself it is called when they have ended.

    Raises:
        DataError: a row lacks an input or its answer; nothing was trained.
        ConfigError: the settings do not fit the model, the rows, the folder or the hardware; nothing was trained.
        TrainingError: a loss was no number, or memory did not suffice (:class:`deepseek.errors.OutOfMemory`); the
            last checkpoint is kept.
    """
    from transformers import set_seed

    settings = recipe.training
    uses_bfloat16(settings)
    if launches(settings.distributed):
        result = _on_workers(model, table, recipe, validation, tokenizer, folder, resume)
        if on_score is not None:
            for step, metrics in result.scores:
                on_score(step, metrics)
        return result
    if resume and folder is None:
        raise ConfigError("resume continues the run in a folder; give fit the folder")
    train_rows, scored_rows = split_rows(table, validation)
    if settings.evaluate == "never":
        scored_rows = None
    _check_scoring(recipe, scored_rows)
    connect(use_cpu=not has_gpu())
    with contextlib.ExitStack() as stack:
        home = RunFolder(_home(folder, stack), main=is_main())
        data = data_record(train_rows, scored_rows)
        newest = _newest_checkpoint(home, recipe, data) if resume else None
        with train_rows.numbered():
            task = recipe.build_task().fitted(train_rows)
        metric = settings.metric or task.main_metric
        set_seed(recipe.seed)  # before loading: a fresh head starts from random weights
        model, tokenizer = loaded_model(model, tokenizer, task)
        task.check_model(model)
        if newest is None:
            on_main(lambda: home.begin(recipe, data))
        limits = ModelLimits.of(model)
        rows = encoded_rows(home, train_rows, task, tokenizer, limits)
        if scored_rows is not None:
            on_main(lambda: check_scorable(scored_rows, task, tokenizer))
        asked = recipe
        recipe, plan = on_main(
            lambda: planned(model, rows, asked, task, tokenizer, home.path, resumed=newest is not None)
        )
        planned_at = time.monotonic()
        settings, bfloat16 = recipe.training, uses_bfloat16(recipe.training)
        batching = RoundedPadding(tokenizer, limits.positions) if bfloat16 else tokenizer
        trunk_frozen = choose_trained(model, settings.train, recipe.adapter)
        if trunk_frozen:
            base = model.base_fingerprint()
            on_main(lambda: home.check_base(base))
        weights = class_weights(task, rows.only([LABELS]), settings.class_weights)
        trained, parameters = model.count_parameters()
        precision: Literal["float32", "bfloat16"] = "bfloat16" if bfloat16 else "float32"
        prepared = prepare_trunk(model, dropout=settings.trunk_dropout, precision=precision, device=training_device())
        trunk = stack.enter_context(prepared)
        frozen = (
            kept_states(model, task, batching, rows, home, settings, trunk, stack) if settings.cache_frozen else None
        )
        settle = settler(model, trunk, frozen)
        settle()
        name = home.path.name if folder is not None else task.name
        callbacks = trackers(
            settings.tracking, home.path if folder is not None else None, name=name,
            parameters=asked.model_dump(mode="json"), resumed=_step(newest),
        ) if is_main() else []  # fmt: skip
        keeps = folder is not None and is_main()
        run = TrainingRun(
            task=task,
            tokenizer=batching,
            rows=rows,
            settings=settings,
            seed=recipe.seed,
            home=home.checkpoints,
            bfloat16=bfloat16,
            trunk_frozen=trunk_frozen,
            metric=metric,
            lower_is_better=metric in task.lower_is_better,
            saves=folder is not None,
            class_weights=weights,
            frozen=frozen,
            extra=strategy_arguments(settings.distributed) if launched() else {},
            scorer=_scorer(model, task, tokenizer, scored_rows, settings.batch_size, bfloat16, settle),
            callbacks=callbacks,
            on_score=on_score,
            on_point=(lambda history: write_curve_csv(home.path, history)) if keeps else None,
        )
        try:
            outcome = train(model, run, resume_from=newest)
        except BaseException:
            for callback in callbacks:
                getattr(callback, "failed", lambda: None)()
            raise
        notes = _curves(home, outcome.history, metric) if keeps else ()
        result = FitResult(
            model=outcome.model,
            task=task,
            tokenizer=tokenizer,
            steps=outcome.steps,
            loss=outcome.loss,
            curve=outcome.curve,
            precision=precision,
            scores=outcome.scores,
            best_step=outcome.best_step,
            metrics=dict(next((m for step, m in outcome.scores if step == outcome.best_step), {})),
            plan=plan,
            trained=trained,
            parameters=parameters,
            folder=home.path if folder is not None else None,
            notes=notes,
            speed={**_speed(outcome), "run_seconds": time.monotonic() - planned_at},
        )
        if keeps:
            home.write_metrics(_summary(result, metric))
    for note in notes:
        progress.console().print(f"  {note}", style="dim", highlight=False)
    return result


def _on_workers(
    model: Any, table: Any, recipe: TrainingRecipe, validation: Any, tokenizer: Any, folder: Any, resume: bool
) -> FitResult:
    """Start the workers that the recipe asks for, and put what they trained into the model."""
    from transformers import set_seed

    done = fit_on_workers(
        model, table, recipe, validation=validation, tokenizer=tokenizer, folder=folder, resume=resume
    )
    set_seed(recipe.seed)  # as in the workers: an adapter keeps the fresh head that it replaces
    model, tokenizer = loaded_model(model, tokenizer, done.task)
    if recipe.adapter is not None and recipe.adapter.name not in model.adapter_names():
        model.add_adapter(recipe.adapter.name, recipe.adapter.lora())
    done.load(model)
    model.eval()
    return FitResult(**done.figures, model=model, task=done.task, tokenizer=tokenizer)


def _check_scoring(recipe: TrainingRecipe, scored: RowSource | None) -> None:
    settings = recipe.training
    if scored is None and settings.early_stopping is not None:
        raise ConfigError(
            "training.early_stopping needs scored rows: give fit validation rows, or rows with the split 'validation', "
            "and do not set training.evaluate to 'never'"
        )
    if scored is None and settings.metric is not None:
        raise ConfigError(f"training.metric is {settings.metric!r}, but there are no validation rows to measure it on")


def _home(folder: str | os.PathLike[str] | None, stack: contextlib.ExitStack) -> Path:
    if folder is not None:
        return Path(folder).expanduser()
    own = stack.enter_context(tempfile.TemporaryDirectory(prefix="deepseek-fit-"))
    return Path(agreed(own))


def _newest_checkpoint(home: RunFolder, recipe: TrainingRecipe, data: dict[str, Any]) -> Path | None:
    if not home.has_run:
        return None
    home.check_same(recipe, data)
    return next(reversed(checkpoints(home.checkpoints)), None)


def _scorer(
    model: PreTrainedModel,
    task: Task,
    tokenizer: Any,
    rows: RowSource | None,
    batch_size: int,
    bfloat16: bool,
    settle: Callable[[], None],
) -> Callable[[], dict[str, float]] | None:
    if rows is None:
        return None

    def scores() -> dict[str, float]:
        with progress.bar("score", len(rows)) as bar, rows.numbered():
            found = score(
                model, task, rows, tokenizer, batch_size=batch_size, bfloat16=bfloat16, passed=lambda n: bar.advance(n)
            )
        settle()
        return found

    return scores


def _curves(home: RunFolder, history: list[dict[str, Any]], metric: str) -> tuple[str, ...]:
    left_out = write_curves(home.path, history, metric)
    return (left_out,) if left_out else ()


def _speed(outcome: Outcome) -> dict[str, float]:
    return {
        "seconds": outcome.seconds,
        "rows_per_second": outcome.rows_per_second,
        "tokens_per_second": outcome.tokens_per_second,
    }


def _summary(result: FitResult, metric: str) -> dict[str, Any]:
    return {
        "steps": result.steps,
        "loss": result.loss,
        "metric": metric if result.scores else None,
        "best_step": result.best_step,
        "validation": result.metrics,
        "last_validation": result.scores[-1][1] if result.scores else {},
        "trained": result.trained,
        "parameters": result.parameters,
        "precision": result.precision,
        "speed": result.speed,
        "notes": list(result.notes),
    }


def _step(checkpoint: Path | None) -> int:
    return 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])

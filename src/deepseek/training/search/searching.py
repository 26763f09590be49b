"""``search``: a recipe, what to vary and an objective in; the best recipe out."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from deepseek import progress
from deepseek.artifacts.cache import write_text
from deepseek.errors import ConfigError
from deepseek.training.recipe import TrainingRecipe
from deepseek.training.search.config import SearchConfig
from deepseek.training.search.ledger import STUDY, Ledger
from deepseek.training.search.overrides import check_space, with_overrides
from deepseek.training.search.plots import draw
from deepseek.training.search.report import RECORD, write_best, write_trials
from deepseek.training.search.running import Round, run_here, run_in_processes
from deepseek.training.search.trials import Objective, SearchError, SearchResult

ABOUT = "search.json"
SAME = ("parameters", "metric", "direction", "sampler", "seed")
"""What a search that is resumed cannot change."""


def search(
    recipe: TrainingRecipe,
    config: SearchConfig,
    objective: Objective,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
) -> SearchResult:
    """Try settings of ``recipe`` and return the best.

    The folder gets ``study.db`` (Optuna's, SQLite), ``trials.csv``, ``trials.json``, ``best.yaml``, plots, and a folder
    for each trial.

    Args:
        recipe: the settings that are not varied, and the task whose main metric is optimised.
        config: what to vary, and how.
        objective: called as ``objective(recipe, report)``; returns metrics by name, or the metric as a number. It
            calls ``report(step, metrics)`` on the way, which ends the trial when it is not worth going on with.
            :func:`fit_objective` makes one that trains.
        resume: go on with the search in ``folder``, if there is one: trials that were interrupted are run again, with
            the same settings, and then the remaining ones.

    Raises:
        UnknownNameError, ConfigError: a path is not a setting, a value does not fit it, or the folder has another
            search; no trial was started.
        SearchError: no trial completed; the message has the reasons.
        MissingExtraError: Optuna (extra ``search``) or Ray (extra ``ray``) is not installed.
    """
    check_space(recipe, config.parameters)
    task = recipe.build_task()
    metric = config.metric or task.main_metric
    direction = config.direction or ("minimize" if metric in task.lower_is_better else "maximize")
    home = Path(folder).expanduser().resolve()
    home.mkdir(parents=True, exist_ok=True)
    with _only_one(home):
        _check_folder(home, recipe, config, resume=resume)
        ledger = Ledger(config, metric, direction, home)
        ledger.requeue()
        write_text(
            home / ABOUT,
            json.dumps({"recipe": recipe.model_dump(mode="json"), "search": config.model_dump(mode="json")}, indent=1),
        )
        try:
            with progress.bar("search", config.trials, "trials") as bar:
                _run(recipe, config, objective, home, ledger, bar)
        finally:
            trials = ledger.trials()
            write_trials(trials, home, metric)
            importances = ledger.importances()
            ledger.close()
        best = ledger.best()
        if best is None:
            raise SearchError(_nothing(ledger, home))
        result_recipe = with_overrides(recipe, best.parameters)
        write_best(result_recipe, home)
        notes = draw(
            home, trials, metric=metric, direction=direction, parameters=config.parameters, importances=importances
        )
    for note in notes:
        progress.console().print(f"  {note}", style="dim", highlight=False)
    return SearchResult(tuple(trials), best, result_recipe, metric, direction, home, notes)


def _run(
    recipe: TrainingRecipe, config: SearchConfig, objective: Objective, home: Path, ledger: Ledger, bar: progress.Bar
) -> None:
    def moved() -> None:
        best = ledger.best()
        bar.set(ledger.ended(), note=f"best {ledger.metric} {best.value:.4g} (trial {best.number})" if best else "")

    deadline = time.monotonic() + config.timeout if config.timeout is not None else None
    round_ = Round(ledger, recipe, objective, home, config.trials, deadline, moved)
    moved()
    if config.launcher == "ray":
        from deepseek.training.search.tune import run_on_ray

        run_on_ray(round_, config)
    elif config.parallel > 1:
        run_in_processes(round_, config.parallel)
    else:
        run_here(round_)


def _check_folder(home: Path, recipe: TrainingRecipe, config: SearchConfig, *, resume: bool) -> None:
    if not (home / STUDY).exists():
        return
    if not resume:
        raise ConfigError(f"{home} has a search already; resume it, or choose another folder")
    if not (home / ABOUT).exists():
        return
    before = json.loads((home / ABOUT).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(config.model_dump(mode="json")))
    for name in SAME:
        if before["search"].get(name) != now[name]:
            raise ConfigError(
                f"the search in {home} was started with {name} = {before['search'].get(name)!r}, and now it is "
                f"{now[name]!r}; keep it, or choose another folder"
            )
    if before["recipe"] != json.loads(json.dumps(recipe.model_dump(mode="json"))):
        raise ConfigError(f"the search in {home} was started with another recipe; keep it, or choose another folder")


def _nothing(ledger: Ledger, home: Path) -> str:
    trials = ledger.trials()
    if not trials:
        return "the search ended before any trial did; give it more time or trials"
    reasons = list(dict.fromkeys(t.reason for t in trials if t.reason))[:3]
    lines = "".join(f"\n  - {reason}" for reason in reasons)
    return f"none of {len(trials)} trials completed; see {home / RECORD}{lines}"


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the folder's lock: two processes that searched in one folder would run the same trials."""
    import fcntl

    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"another process searches in {home}; wait for it, or choose another folder") from error
        yield

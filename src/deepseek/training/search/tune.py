"""Trials on a Ray cluster: Ray Tune places and supervises them, the ledger picks and prunes them.

Tune's own Optuna adapter keeps its study in memory and knows nothing of pruners; here a Tune ``Searcher`` and a
``TrialScheduler`` hand everything on to the ledger, so that trials are recorded, pruned and resumed as they are on one
machine. The search folder has to be on storage that all nodes share.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepseek.errors import EngineError, require
from deepseek.training.recipe import TrainingRecipe
from deepseek.training.search.config import SearchConfig
from deepseek.training.search.running import Round, as_metrics, is_fault, reason_of
from deepseek.training.search.trials import Pruned, Report

END, STEP, FAILED = "#end", "#step", "#failed"
ALIVE = {"#alive": 1}
"""In every report, because Tune wants one metric that is in all of them."""


def run_on_ray(round_: Round, config: SearchConfig) -> None:
    """Run up to ``config.parallel`` trials at once as Ray Tune's.

    Raises:
        EngineError: Ray could not be reached or could not run the trials.
        MissingExtraError: Ray is not installed.
    """
    ray = require("ray", "ray")
    require("ray.tune", "ray")
    from ray import tune

    from deepseek.training.distributed.ray_launch import connect

    own = not ray.is_initialized()
    if own:
        connect(config.address, cores=config.parallel * config.cores)
    kind = type(round_.recipe)
    try:
        trainable = tune.with_resources(
            tune.with_parameters(_trial, objective=round_.objective, kind=kind),
            {"cpu": config.cores, **({"gpu": config.gpus} if config.gpus else {})},
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_searcher(round_),
                scheduler=_scheduler(round_),
                num_samples=round_.trials,
                max_concurrent_trials=config.parallel,
                reuse_actors=False,
            ),
            run_config=tune.RunConfig(name="tune", storage_path=str(round_.folder / "ray"), verbose=0),
        )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # Tune's own tables: we show a bar and our own
                tuner.fit()
        except KeyboardInterrupt:
            raise
        except Exception as error:
            raise EngineError(f"Ray Tune could not run the trials: {error}") from error
    finally:
        if own:
            ray.shutdown()


def _trial(settings: Mapping[str, Any], objective: Any, kind: type[TrainingRecipe]) -> None:
    """One trial in a Ray worker; its end is its last report."""
    from ray import tune

    from deepseek import progress

    progress.silence()
    recipe = kind.model_validate(json.loads(settings["recipe"]))

    def prunes(step: int, metrics: dict[str, float]) -> bool:
        tune.report({**ALIVE, STEP: step, "metrics": json.dumps(metrics)})  # does not return when pruned
        return False

    try:
        result = objective(recipe, Report(Path(settings["folder"]), settings["number"], prunes))
    except Pruned:
        return
    except Exception as error:
        if is_fault(error):
            raise
        tune.report({**ALIVE, FAILED: reason_of(error)})
        return
    tune.report({**ALIVE, END: json.dumps(dict(result) if isinstance(result, Mapping) else result)})


def _searcher(round_: Round) -> Any:
    from ray.tune.search import Searcher

    ledger = round_.ledger

    class LedgerSearcher(Searcher):  # type: ignore[misc]
        """Asks the ledger for trials and tells it how they ended; the scheduler tells it of reports."""

        def __init__(self) -> None:
            super().__init__(metric=next(iter(ALIVE)), mode="max")
            self.numbers: dict[str, int] = {}

        def set_search_properties(self, *arguments: Any, **options: Any) -> bool:
            return True

        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            trial = round_.next(len(self.numbers))
            if trial is None:
                return str(Searcher.FINISHED)
            number, recipe, folder = trial
            self.numbers[trial_id] = number
            return {"recipe": recipe.model_dump_json(), "folder": str(folder), "number": number}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            number = self.numbers.pop(trial_id, None)
            if number is None or number not in ledger.open:
                return
            last = result or {}
            if error:
                ledger.fail(number, "the trial's process failed; Ray's log has its last words")
            elif END in last:
                ledger.complete(number, as_metrics(ledger, json.loads(last[END])))
            elif FAILED in last:
                ledger.fail(number, last[FAILED])
            else:
                ledger.prune(number)
            round_.moved()

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is on disk."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is on disk."""

    return LedgerSearcher()


def _scheduler(round_: Round) -> Any:
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class LedgerScheduler(FIFOScheduler):  # type: ignore[misc]
        """Stops the trials that the ledger's pruner gives up."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if STEP not in result or END in result:
                return str(TrialScheduler.CONTINUE)
            prunes = round_.ledger.report(trial.config["number"], result[STEP], json.loads(result["metrics"]))
            return str(TrialScheduler.STOP if prunes else TrialScheduler.CONTINUE)

    return LedgerScheduler()

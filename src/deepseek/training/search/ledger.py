"""The record of a search: an Optuna study in an SQLite file, so that a search that was killed goes on.

Each trial's sampler is seeded from (seed, trial number), so that a search that was interrupted tries what it would
have tried without the interruption (with one trial at a time; several at once depend on which ends first).
"""

from __future__ import annotations

import json
import math
import random
import sqlite3
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from deepseek.errors import require
from deepseek.training.search.config import Choices, Range, SearchConfig
from deepseek.training.search.trials import ObjectiveError, Trial

STUDY = "study.db"


class Ledger:
    """Hands out trials and writes down how they go; one process owns it."""

    def __init__(self, config: SearchConfig, metric: str, direction: str, folder: Path) -> None:
        optuna = require("optuna", "search")
        require("sqlalchemy", "search")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self.config, self.metric, self.direction = optuna, config, metric, direction
        self._space = {path: _distribution(optuna, values) for path, values in config.parameters.items()}
        self._study = optuna.create_study(
            storage=_storage(optuna, folder / STUDY),
            study_name="search",
            direction=direction,
            load_if_exists=True,
            sampler=self._sampler(0),
            pruner=self._pruner(),
        )
        self.open: dict[int, Any] = {}
        """Trials that run, by number."""
        self._grid = _combinations(config) if config.sampler == "grid" else []

    def requeue(self) -> int:
        """Give up what ran when the search was interrupted, and let it be tried again first; returns how many."""
        running = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))
        for trial in running:
            run = trial.user_attrs.get("run")
            if run is not None:  # else it was killed before its settings were complete, and its number is free
                self._study.enqueue_trial(trial.params, user_attrs={"run": run})
            self._study._storage.set_trial_user_attr(trial._trial_id, "again", True)
            self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        return len(running)

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """The next trial's number and settings; ``None`` when a grid has no combination left."""
        known = self._study.get_trials(deepcopy=False)
        number = len({t.user_attrs["run"] for t in known if "run" in t.user_attrs})
        if not any(t.state.name == "WAITING" for t in known):
            self._study.sampler = self._sampler(number)
            if self.config.sampler == "grid":
                if number >= len(self._grid):
                    return None
                self._study.enqueue_trial(self._grid[number], user_attrs={"run": number})
        trial = self._study.ask(self._space)
        number = int(trial.user_attrs.get("run", number))
        trial.set_user_attr("run", number)
        trial.set_user_attr("began", time.time())
        self.open[number] = trial
        return number, {path: _value(self.config.parameters[path], v) for path, v in trial.params.items()}

    def report(self, number: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Write a report down; whether the trial shall be given up.

        Raises:
            ObjectiveError: the metric that is searched over is not among those reported.
        """
        trial = self.open[number]
        scores = [*trial.user_attrs.get("scores", []), [step, dict(metrics)]]
        trial.set_user_attr("scores", scores)
        value = self.value_of(metrics)
        if not math.isfinite(value):
            return False
        trial.report(value, step)
        return bool(trial.should_prune())

    def complete(self, number: int, metrics: Mapping[str, float]) -> None:
        """The trial came to its end; one whose metric is no number has failed."""
        value = self.value_of(metrics)
        if not math.isfinite(value):
            self.fail(number, f"{self.metric} is {value}")
            return
        trial = self.open.pop(number)
        trial.set_user_attr("metrics", dict(metrics))
        self._study.tell(trial, value)

    def prune(self, number: int) -> None:
        """The trial was given up."""
        self._study.tell(self.open.pop(number), state=self._optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """The trial went wrong."""
        trial = self.open.pop(number)
        trial.set_user_attr("reason", reason[:2000])
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def value_of(self, metrics: Mapping[str, float]) -> float:
        """The metric that is searched over."""
        if self.metric not in metrics:
            raise ObjectiveError(
                f"the search optimises {self.metric!r}, but the objective reported {', '.join(metrics) or 'nothing'}"
            )
        return float(metrics[self.metric])

    def ended(self) -> int:
        """How many trials came to an end of any kind."""
        return len(self.trials())

    def trials(self) -> list[Trial]:
        """All trials that came to an end, in the order in which they began."""
        states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        found = []
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.name not in states or trial.user_attrs.get("again"):
                continue
            scores = tuple((int(step), dict(metrics)) for step, metrics in trial.user_attrs.get("scores", []))
            began = trial.user_attrs.get("began")
            found.append(
                Trial(
                    number=int(trial.user_attrs.get("run", trial.number)),
                    state=states[trial.state.name],  # type: ignore[arg-type]
                    parameters={p: _value(self.config.parameters[p], v) for p, v in trial.params.items()},
                    value=trial.value if trial.state.name != "FAIL" else None,
                    metrics=dict(trial.user_attrs.get("metrics", scores[-1][1] if scores else {})),
                    scores=scores,
                    seconds=trial.datetime_complete.timestamp() - began if began and trial.datetime_complete else 0.0,
                    reason=trial.user_attrs.get("reason"),
                )
            )
        return sorted(found, key=lambda t: t.number)

    def best(self) -> Trial | None:
        """The best trial that completed, the earliest of equals."""
        done = [t for t in self.trials() if t.state == "complete" and t.value is not None]
        sign = 1 if self.direction == "minimize" else -1
        return min(done, key=lambda t: (sign * (t.value or 0.0), t.number), default=None)

    def importances(self) -> dict[str, float]:
        """How much each setting explains of the metric (PED-ANOVA, Watanabe et al. 2023); needs differing trials."""
        done = [t.value for t in self.trials() if t.state == "complete"]
        if len(done) < 4 or len(set(done)) < 2:
            return {}
        evaluator = self._optuna.importance.PedAnovaImportanceEvaluator()
        return dict(self._optuna.importance.get_param_importances(self._study, evaluator=evaluator))

    def close(self) -> None:
        """Let go of the file."""
        self._study._storage.remove_session()

    def _sampler(self, number: int) -> Any:
        samplers, seed = self._optuna.samplers, (self.config.seed * 1_000_003 + number) % 2**32
        if self.config.sampler == "tpe":
            return samplers.TPESampler(seed=seed, multivariate=True)
        return samplers.RandomSampler(seed=seed)

    def _pruner(self) -> Any:
        pruners = self._optuna.pruners
        if self.config.pruner == "median":
            return pruners.MedianPruner(self.config.startup_trials, self.config.warmup_steps)
        return pruners.HyperbandPruner() if self.config.pruner == "hyperband" else pruners.NopPruner()


def _distribution(optuna: Any, values: Range | Choices) -> Any:
    kinds = optuna.distributions
    if isinstance(values, Choices):
        return kinds.CategoricalDistribution([_key(v) for v in values.choices])
    if values.whole:
        return kinds.IntDistribution(values.low, values.high, log=values.log, step=values.step or 1)
    return kinds.FloatDistribution(float(values.low), float(values.high), log=values.log, step=values.step)


def _storage(optuna: Any, path: Path) -> Any:
    """The file as Optuna's storage.

    Each report is a commit, so commits must not wait for the disk: with a write-ahead log a power cut may lose the last
    of them, but not the file.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"creator": connect})


def _combinations(config: SearchConfig) -> list[dict[str, Any]]:
    """Every combination of a grid, in an order that the seed decides."""
    names = list(config.parameters)
    found = [dict(zip(names, c, strict=True)) for c in product(*(_grid(v) for v in config.parameters.values()))]
    random.Random(config.seed).shuffle(found)  # noqa: S311 - not a secret
    return found


def _grid(values: Range | Choices) -> list[Any]:
    if isinstance(values, Choices):
        return [_key(v) for v in values.choices]
    step = values.step or 1
    count = math.floor((values.high - values.low) / step + 1e-9) + 1
    return [values.low + i * step for i in range(count)]


def _key(value: Any) -> Any:
    """A choice as Optuna stores it: lists and dicts as JSON text."""
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value


def _value(values: Range | Choices, stored: Any) -> Any:
    if isinstance(values, Choices):
        return next(v for v in values.choices if _key(v) == stored and type(_key(v)) is type(stored))
    return stored

"""Trials on this machine: one after the other here, or several at once in processes of their own."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deepseek.errors import ConfigError, DeepSeekError
from deepseek.training.recipe import TrainingRecipe
from deepseek.training.search.ledger import Ledger
from deepseek.training.search.overrides import with_overrides
from deepseek.training.search.trials import ObjectiveError, Pruned, Report

RECORDED = (DeepSeekError, RuntimeError, ArithmeticError, MemoryError)
"""Errors that belong to a trial's settings; others are faults of the objective, and end the search."""


@dataclass
class Round:
    """What running trials needs: the ledger, the recipe to change, and when to stop."""

    ledger: Ledger
    recipe: TrainingRecipe
    objective: Any
    folder: Path
    trials: int
    deadline: float | None
    moved: Callable[[], None]

    def next(self, running: int = 0) -> tuple[int, TrainingRecipe, Path] | None:
        """The next trial, if there is one to start while ``running`` others run."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return None
        if self.ledger.ended() + running >= self.trials:
            return None
        asked = self.ledger.ask()
        if asked is None:
            return None
        number, values = asked
        return number, with_overrides(self.recipe, values), trial_folder(self.folder, number)


def trial_folder(folder: Path, number: int) -> Path:
    """The folder of a trial's files."""
    path = folder / "trials" / f"trial-{number:04d}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def as_metrics(ledger: Ledger, result: Any) -> dict[str, float]:
    """What an objective returned, as metrics."""
    if isinstance(result, Mapping):
        return {str(name): float(value) for name, value in result.items()}
    if isinstance(result, int | float):
        return {ledger.metric: float(result)}
    raise ObjectiveError(
        f"expected an objective that returns metrics by name or a number, received {type(result).__name__}"
    )


def reason_of(error: BaseException) -> str:
    """Why a trial failed, for its record."""
    return f"{type(error).__name__}: {error}"


def is_fault(error: BaseException) -> bool:
    """Whether an error is the objective's fault, and would meet every trial."""
    return isinstance(error, ObjectiveError) or not isinstance(error, RECORDED)


def run_here(round_: Round) -> None:
    """Run trials one after the other in this process."""
    ledger = round_.ledger
    while (trial := round_.next()) is not None:
        number, recipe, folder = trial
        report = Report(folder, number, partial(ledger.report, number))
        try:
            ledger.complete(number, as_metrics(ledger, round_.objective(recipe, report)))
        except Pruned:
            ledger.prune(number)
        except Exception as error:
            ledger.fail(number, reason_of(error))
            if is_fault(error):
                raise
        round_.moved()


@dataclass
class _Running:
    process: Any
    pipe: multiprocessing.connection.Connection


def run_in_processes(round_: Round, parallel: int) -> None:
    """Run up to ``parallel`` trials at once, each in a new process.

    Raises:
        ConfigError: the objective cannot be sent to another process.
    """
    try:
        pickle.dumps(round_.objective)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"trials at once run in processes of their own, so the objective has to be a function of a module or an "
            f"object that can be pickled, not a closure; use parallel: 1 with it ({error})"
        ) from error
    context = multiprocessing.get_context("spawn")
    running: dict[int, _Running] = {}
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = threads or str(max(1, (os.cpu_count() or 1) // parallel))
    try:
        while True:
            while len(running) < parallel and (trial := round_.next(len(running))) is not None:
                number, recipe, folder = trial
                pipe, end = context.Pipe()
                process = context.Process(target=_child, args=(end, round_.objective, recipe, folder, number))
                process.start()
                end.close()
                running[number] = _Running(process, pipe)
            if not running:
                return
            ready = multiprocessing.connection.wait([r.pipe for r in running.values()])
            for number in [n for n, r in running.items() if r.pipe in ready]:
                if _answer(round_.ledger, number, running[number]):
                    running.pop(number)
                    round_.moved()
    finally:
        for other in running.values():
            other.process.kill()
            other.process.join()
        if threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)


def _answer(ledger: Ledger, number: int, trial: _Running) -> bool:
    """Take one message of a trial; whether the trial has ended."""
    try:
        kind, content = trial.pipe.recv()
    except EOFError:
        trial.process.join()
        status = trial.process.exitcode
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        ledger.fail(number, f"the trial's process {how}")
        return True
    if kind == "report":
        trial.pipe.send(ledger.report(number, *content))
        return False
    trial.process.join()
    if kind == "done":
        ledger.complete(number, as_metrics(ledger, content))
    elif kind == "pruned":
        ledger.prune(number)
    else:
        reason, fault = content
        ledger.fail(number, reason)
        if fault is not None:
            raise fault
    return True


def _child(pipe: Any, objective: Any, recipe: TrainingRecipe, folder: Path, number: int) -> None:
    """A trial in its own process, which ends with the process that started it."""
    from deepseek import progress

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the searching process's to handle
    threading.Thread(target=_follow, daemon=True).start()
    progress.silence()

    def prunes(step: int, metrics: dict[str, float]) -> bool:
        pipe.send(("report", (step, metrics)))
        return bool(pipe.recv())

    try:
        result = objective(recipe, Report(folder, number, prunes))
        message: tuple[str, Any] = ("done", dict(result) if isinstance(result, Mapping) else result)
    except Pruned:
        message = ("pruned", None)
    except Exception as error:  # noqa: BLE001 - sent to the searching process, which decides
        error.add_note("".join(traceback.format_exception(error)))
        message = ("failed", (reason_of(error), error if is_fault(error) else None))
    try:
        pipe.send(message)
    except (pickle.PicklingError, TypeError, AttributeError):
        pipe.send(("failed", (str(message), None)))


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

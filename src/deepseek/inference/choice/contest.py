"""Loads the candidates and lets them run the same batches in turn, so that a machine's moods are the same for all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from deepseek import progress
from deepseek.errors import DeepSeekError
from deepseek.inference import RUNTIMES
from deepseek.inference.choice.batches import batches
from deepseek.inference.choice.outcome import Trial
from deepseek.inference.recording import Batch

if TYPE_CHECKING:
    import torch

    from deepseek.models.checkpoint import Checkpoint
    from deepseek.tasks.base import Executable, Task

T = TypeVar("T")
ROUNDS, LEAST_ROUNDS = 7, 3
SECONDS = 20.0
"""No further round is begun after that, once there are :data:`LEAST_ROUNDS`."""
BEHIND = 2.0
"""Who takes so many times as long as the best on every batch of the first round runs no other, and is freed."""


@dataclass
class _Entrant:
    trial: Trial
    times: dict[str, list[float]] = field(default_factory=dict)
    outputs: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)

    def measured(self, reference: _Entrant, made: Mapping[str, Batch]) -> Trial:
        """The trial with its medians and its error."""
        return self.trial.model_copy(
            update={
                "seconds": {name: statistics.median(times) for name, times in self.times.items()},
                "error": max(relative_error(self.outputs[n], reference.outputs[n], made[n]) for n in made),
            }
        )


def held(
    checkpoint: Checkpoint,
    task: Task,
    processor: Any,
    candidates: Sequence[Trial],
    batch_size: int,
    rows: Sequence[Mapping[str, Any]] | None,
) -> list[Trial]:
    """The candidates with their times and errors; one that cannot load the model has that as its verdict."""
    done: list[Trial] = []

    def load(trial: Trial) -> Executable:
        engine = RUNTIMES.get(trial.runtime)()
        return engine.load(checkpoint, type(task).head, device=trial.device, dtype=trial.dtype)

    with progress.bar("measure runtimes", len(candidates) + ROUNDS, "rounds") as bar:
        racing = [(_Entrant(trial), model) for trial, model in loaded(candidates, load, done, bar)]
        if not racing:
            return done
        entrants = [entrant for entrant, _ in racing]
        made = batches(task, processor, racing[0][1], batch_size, rows)
        for entrant, model in racing:
            entrant.outputs = {name: model.forward(batch) for name, batch in made.items()}
        started = monotonic()
        for number in range(ROUNDS):
            if number >= LEAST_ROUNDS and monotonic() - started > SECONDS:
                break
            for name, batch in made.items():
                for entrant, model in racing:
                    begun = perf_counter()
                    model.forward(batch)
                    entrant.times.setdefault(name, []).append(perf_counter() - begun)
            if number == 0:
                best = {name: min(entrant.times[name][0] for entrant in entrants) for name in made}
                racing = [(e, m) for e, m in racing if any(e.times[name][0] <= BEHIND * best[name] for name in made)]
            bar.advance(1, note="")
    return done + [entrant.measured(entrants[0], made) for entrant in entrants]


def loaded(
    trials: Sequence[Trial], load: Callable[[Trial], T], failed: list[Trial], bar: progress.Bar
) -> Iterator[tuple[Trial, T]]:
    """Each trial with what it loads; one that cannot load goes to ``failed``, with the reason as its verdict."""
    for trial in trials:
        try:
            yield trial, load(trial)
        except DeepSeekError as error:
            failed.append(trial.model_copy(update={"verdict": str(error)}))
        bar.advance(1, note=trial.name)


def relative_error(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], batch: Batch) -> float:
    """The largest over the outputs of norm of difference divided by norm; padded positions do not count."""
    worst = 0.0
    mask = batch.get("attention_mask")
    for name, value in expected.items():
        other = found[name]
        if mask is not None and value.ndim > 2 and value.shape[:2] == mask.shape:
            value, other = value[mask.bool()], other[mask.bool()]
        norm = float(value.norm())
        difference = float((other - value).norm())
        if not math.isfinite(difference):
            return math.inf
        worst = max(worst, difference / norm if norm else difference)
    return worst

"""``plan``: from a model, the lengths of the data and the budgets to settings, with memory and time foretold.

Design:
- Memory is simulated, not estimated by formulas (:mod:`~deepseek.training.planning.simulation`), over steps such as
  the run has, the longest among them; on a CPU through a model of the C library's heap
  (:mod:`~deepseek.training.planning.heap`), because the process's resident memory is what a container is killed for; on
  a GPU the sum of live tensors is what ``torch.cuda.max_memory_allocated`` counts. To it comes what the process holds
  without tensors.
- Time comes from real steps of a shortened model in a process of its own
  (:mod:`~deepseek.training.planning.timing`), summed over the shapes of the run's batches.
- Accuracy decides before time: tiers of equal expected accuracy are tried in order
  (:mod:`~deepseek.training.planning.candidates`); shallow adapters are only used when a budget forces them.

Not covered: validation passes and saving (time), several devices, and what other processes do meanwhile.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from deepseek import progress
from deepseek.errors import ConfigError
from deepseek.memory import available_memory, process_memory
from deepseek.models.layers import transformer_layers
from deepseek.training.encoding.limits import ModelLimits
from deepseek.training.loop.padding import rounded_length
from deepseek.training.planning.batches import calibration_lengths, epoch_shapes, memory_lengths
from deepseek.training.planning.budgets import parse_memory, parse_time, write_memory, write_time
from deepseek.training.planning.candidates import smaller_batches, tiers, trained_layers
from deepseek.training.planning.outcome import Candidate, Parts, Plan
from deepseek.training.planning.rehearsal import Act, rehearsal_of, rehearse
from deepseek.training.planning.residency import on_meta, resident_weights
from deepseek.training.planning.settings import Settings
from deepseek.training.planning.simulation import simulate
from deepseek.training.planning.skeleton import adapted, copied, narrow_bytes, skeleton
from deepseek.training.planning.steps import template
from deepseek.training.planning.timing import Length, StepTimes, acts, run_seconds, step_times

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from deepseek.training.recipe import TrainingRecipe

PROCESS_GROWTH = 60_000_000
"""What a process grows by in its first CPU steps besides tensors: code pages, thread stacks, generated kernels."""
TIME_TOLERANCE = 0.1
"""The least half-width of a predicted time's interval."""


def plan(
    model: str | os.PathLike[str] | PretrainedConfig | PreTrainedModel,
    lengths: Sequence[int] | Any,
    recipe: TrainingRecipe,
    *,
    memory: str | int | None = None,
    time: str | float | None = None,
    calibrate: bool = True,
    allow_shallow: bool = True,
    allow_cache: bool = True,
    task: Any = None,
    batch: Mapping[str, torch.Tensor] | None = None,
    device: str | None = None,
    process_bytes: int | None = None,
) -> Plan:
    """Choose how to train.

    Args:
        model: a name or path, a transformers config, or a loaded model (with or without its adapter).
        lengths: token count of every training feature.
        recipe: what is to be trained; its fixed settings stay (see :mod:`deepseek.training.planning.candidates`).
        memory: peak memory of the process (of the GPU's allocations); ``None``: what is free, minus a tenth.
        time: wall time of the training steps; ``None``: no limit.
        calibrate: time real steps (takes seconds to a minute); needed for a time budget.
        allow_shallow: allow adapters in the upper layers only, if nothing else fits.
        allow_cache: allow the states of frozen lower layers to be kept on the disk.
        task: the task with what it learned from the data; ``None``: as the recipe says.
        batch: a real training batch (``task.collate_training``), whose shape is stretched; ``None``: a plain one.
        device: ``"cpu"`` or ``"cuda"``; ``None``: the GPU if there is one.
        process_bytes: what the training process holds besides tensors; ``None``: what this one holds now.

    Raises:
        ConfigError: no settings fit the budgets; the message says what the smallest plan needs.
    """
    if time is not None and not calibrate:
        raise ConfigError("a time budget needs calibrate=True: without timed steps nothing is known about time")
    limit_seconds = parse_time(time) if time is not None else None
    search = _Search(model, np.asarray(lengths, dtype=np.int64), recipe, task, batch, device, process_bytes)
    limit = parse_memory(memory) if memory is not None else int(available_memory(search.device) * 0.9)
    seen: list[Candidate] = []
    for tier in tiers(
        recipe, search.layers, frozen=search.frozen, allow_shallow=allow_shallow, allow_cache=allow_cache
    ):
        fitting = _fitting(search, tier, limit, seen)
        if calibrate:
            fitting = sorted(search.timed(fitting), key=lambda c: c.seconds or 0.0)
        late = [c for c in fitting if limit_seconds is not None and (c.seconds or 0.0) > limit_seconds]
        if len(late) < len(fitting):
            verdict = "fits, but is slower" if calibrate else "fits, but is expected to be slower"
            chosen = fitting[0].model_copy(update={"verdict": "chosen"})
            rest = [c.model_copy(update={"verdict": verdict}) for c in fitting[1:] if c not in late]
            return search.result(chosen, [chosen, *rest, *_too_slow(late, limit_seconds), *seen], limit, limit_seconds)
        seen += _too_slow(late, limit_seconds)
    raise ConfigError(_nothing_fits(seen, limit, limit_seconds, recipe))


def _fitting(search: _Search, tier: list[Settings], limit: int, seen: list[Candidate]) -> list[Candidate]:
    """The settings of a tier that fit the memory; misses are added to ``seen``.

    Checkpointing only costs time where the same settings fit without it, so it is then not looked at.
    """
    found: list[Candidate] = []
    with progress.bar("plan", None, "candidates") as bar:
        for settings in tier:
            plain = settings.model_copy(update={"gradient_checkpointing": False})
            if settings.gradient_checkpointing and any(c.settings == plain for c in found):
                continue
            candidate = _largest(search, settings, limit, seen, bar)
            if candidate is not None:
                found.append(candidate)
    return found


def _largest(
    search: _Search, settings: Settings, limit: int, seen: list[Candidate], bar: progress.Bar
) -> Candidate | None:
    """The settings with the largest micro-batch that fits."""
    options = smaller_batches(settings)
    while True:
        candidate = search.candidate(settings)
        bar.advance(1, note=str(settings))
        if candidate.memory_bytes <= limit:
            return candidate
        seen.append(candidate.model_copy(update={"verdict": f"needs more than {write_memory(limit)}"}))
        fixed = candidate.memory_bytes - candidate.parts.activations - candidate.parts.heap
        if not options:
            return None
        # activations grow with the rows: guess the rows that fit, at least one step down; where not even the rest
        # fits, look at single rows at once, so that an error can say what the smallest plan needs
        guess = settings.micro_batch_size * (limit - fixed) / max(1, candidate.memory_bytes - fixed)
        rows = next((n for n in options if n <= guess), options[-1])
        options = [n for n in options if n < rows]
        settings = settings.model_copy(update={"micro_batch_size": rows})


def _too_slow(candidates: list[Candidate], limit_seconds: float | None) -> list[Candidate]:
    verdict = f"takes longer than {write_time(limit_seconds or 0.0)}"
    return [c.model_copy(update={"verdict": verdict}) for c in candidates]


class _Search:
    """The state of one search: the skeleton, the batches' shapes, what was simulated and timed."""

    def __init__(
        self, model: Any, lengths: Any, recipe: TrainingRecipe, task: Any, batch: Any, device: str | None,
        process_bytes: int | None,
    ) -> None:  # fmt: skip
        import torch
        from transformers import Trainer  # noqa: F401 - what training will have loaded counts as its memory

        if recipe.adapter is not None:
            import peft  # noqa: F401
        if lengths.ndim != 1 or not len(lengths) or lengths.min() < 1:
            raise ConfigError(f"expected the token count of every training feature, received {lengths!r}")
        self.recipe, self.lengths = recipe, lengths
        self.task = task if task is not None else recipe.build_task()
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.bare = skeleton(model, recipe, self.task)
        self.batch = batch if batch is not None else template(self.task, self.bare.config)
        self.layers = len(transformer_layers(self.bare)[1])
        self.frozen = recipe.adapter is not None or recipe.training.train == "head"
        loaded = model if isinstance(model, torch.nn.Module) else None
        self.process = process_bytes if process_bytes is not None else process_memory() - resident_weights(loaded)
        self._times: dict[tuple[str, float | None], StepTimes] = {}
        self._rounded = partial(rounded_length, longest=ModelLimits.of(self.bare).positions)

    def candidate(self, settings: Settings) -> Candidate:
        """Simulate some of the run's steps under the settings."""
        ready = adapted(copied(self.bare, on_meta), self.recipe, settings)
        footprint = simulate(
            ready, settings, self.recipe, self.task, self.batch, self._memory_lengths(settings), device=self.device
        )
        parts = Parts(
            weights=footprint.weights,
            gradients=footprint.gradients,
            optimizer=footprint.optimizer,
            activations=footprint.activations,
            heap=max(0, footprint.resident - footprint.peak),
            process=self.process + PROCESS_GROWTH if self.device == "cpu" else 0,
        )
        peak = footprint.peak + parts.heap + parts.process
        if self.device == "cpu" and settings.cache_frozen:
            # all weights are there while the states are computed that then stand for some of them
            whole = narrow_bytes(ready, settings)
            if parts.process + whole > peak:
                peak = parts.process + whole
                parts = Parts(weights=whole, gradients=0, optimizer=0, activations=0, heap=0, process=parts.process)
        return Candidate(settings=settings, memory_bytes=peak, parts=parts, verdict="")

    def _memory_lengths(self, settings: Settings) -> list[int]:
        shapes = self.shapes(settings)
        if self.device != "cpu":
            return [int(shapes[:, 1].max())] * 2  # no heap with holes; the second has the optimiser's states
        steps = self.recipe.training.max_steps or math.inf
        epochs = min(self.recipe.training.epochs, steps * settings.accumulation / len(shapes))
        return memory_lengths(shapes, again=epochs > 1)

    def shapes(self, settings: Settings) -> Any:
        return epoch_shapes(
            self.lengths, settings.batch_size, settings.micro_batch_size,
            group_by_length=settings.group_by_length, seed=self.recipe.seed,
            padded=self._rounded if settings.precision == "bfloat16" else int,
        )  # fmt: skip

    def timed(self, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates with predicted seconds; what is not known yet is rehearsed, all in one process."""
        keys = dict.fromkeys(self._key(c) for c in candidates)
        missing = [key for key in keys if key not in self._times]
        if missing:
            asked: list[Act] = []
            firsts: dict[tuple[str, float | None], int] = {}
            for key in missing:
                settings = next(c.settings for c in candidates if self._key(c) == key)
                firsts[key] = len(asked)
                asked += acts(settings, self.layers, calibration_lengths(self.shapes(settings)))
            with progress.bar("time some steps", None, "steps") as bar:
                outcome = rehearse(
                    rehearsal_of(self.bare, self.recipe, self.task, self.batch, self.device, asked, short=True)
                )
                bar.advance(len(outcome.timings))
            for key, first in firsts.items():
                self._times[key] = step_times(outcome, first, self.layers)
        return [
            c.model_copy(update={"seconds": self.seconds(c.settings, self._times[self._key(c)])}) for c in candidates
        ]

    @staticmethod
    def _key(candidate: Candidate) -> tuple[str, float | None]:
        return candidate.settings.precision, candidate.settings.trunk_dropout

    def seconds(self, settings: Settings, times: StepTimes) -> float:
        training = self.recipe.training
        width = getattr(self.bare.config, "hidden_size", 0) or 0
        return run_seconds(
            times,
            settings,
            self.shapes(settings),
            Length(training.epochs, training.max_steps),
            layers=self.layers,
            trained=trained_layers(self.recipe, settings, self.layers),
            state_bytes=width * (2 if settings.precision == "bfloat16" else 4),
            weights=sum(weight.numel() for weight in self.bare.parameters()),
        )

    def result(self, chosen: Candidate, candidates: list[Candidate], limit: int, limit_seconds: float | None) -> Plan:
        seconds = chosen.seconds
        spread = max(TIME_TOLERANCE, self._times[self._key(chosen)].spread) if seconds is not None else 0.0
        return Plan(
            settings=chosen.settings,
            layers=self.layers,
            memory_bytes=chosen.memory_bytes,
            seconds=seconds,
            seconds_low=seconds * (1 - min(spread, 0.9)) if seconds is not None else None,
            seconds_high=seconds * (1 + spread) if seconds is not None else None,
            parts=chosen.parts,
            memory_limit=limit,
            time_limit=limit_seconds,
            device=self.device,
            candidates=candidates,
        )


def _nothing_fits(seen: list[Candidate], limit: int, limit_seconds: float | None, recipe: TrainingRecipe) -> str:
    smallest = min(seen, key=lambda c: c.memory_bytes)
    text = f"no settings train this in {write_memory(limit)}"
    if limit_seconds is not None:
        text += f" and {write_time(limit_seconds)}"
    text += f"; the smallest plan needs {write_memory(smallest.memory_bytes)} ({smallest.settings})"
    quick = [c for c in seen if c.seconds is not None]
    if quick:
        fastest = min(quick, key=lambda c: c.seconds or 0.0)
        text += f"; the fastest that fits the memory takes {write_time(fastest.seconds or 0.0)} ({fastest.settings})"
    if recipe.adapter is None and recipe.training.train != "head":
        text += ". An adapter needs no gradients and optimiser states of the frozen weights"
    return text + ". Raise a budget, use a smaller model, or cut texts with a smaller max_length"

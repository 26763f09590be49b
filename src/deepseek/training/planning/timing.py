"""The time of a run, from a few real steps of a shortened model.

A transformer's layers cost the same, so two short models tell all: with 1 and with 3 of the layers, trained and run
forward only, at up to three lengths of the run's own batches. Differences give a layer's training and forward time,
the rest is embeddings and head. From these follow full and shallow adapters, checkpointing (one more forward of the
trained layers), cached lower layers (no forward, but one pass to fill the cache), and any number of layers; summed over
the shapes that the run's batches will have. The optimiser's time grows with the layers in the same way. The lengths
come in turn, as in a run, whose steps seldom have the shape of the one before: what a new shape costs
(:mod:`deepseek.training.loop.padding`) is then in what was measured.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from deepseek.training.planning.rehearsal import Act, Outcome
from deepseek.training.planning.settings import Settings

SHORT, LONG = 1, 3
LOOP_SECONDS = 0.006
"""The loop's own time a forward pass: sampling, collation, callbacks (an estimate for transformers' Trainer)."""
START_SECONDS, START_SECONDS_A_WEIGHT = 0.2, 1e-8
"""Before the first step: hashing and narrowing weights, and the optimiser's states' first pages (an estimate)."""
DISK_BYTES_PER_SECOND = 1e9
_TOKENS = 4096
_REPEATS = 3
_PASSES = 2
_KINDS = 4

Shapes = npt.NDArray[np.int64]


def acts(settings: Settings, layers: int, lengths: list[int]) -> list[Act]:
    """The rehearsal's acts for one precision: short and long model, trained and forward only, all of it twice.

    Twice, because a machine that others use too is fast for some seconds and slow for some: what is compared is then
    not from one such stretch.
    """
    made: list[Act] = []
    for train in (True, False) * _PASSES:
        for kept in (min(SHORT, layers), min(LONG, layers)):
            each = [(max(1, min(settings.micro_batch_size, _TOKENS // length)), length) for length in lengths]
            shapes = each * _REPEATS  # in turn, as a run's steps differ: a shape seen just before is cheaper
            plain = Settings(
                precision=settings.precision,
                trunk_dropout=settings.trunk_dropout,
                batch_size=settings.micro_batch_size,
                micro_batch_size=settings.micro_batch_size,
            )
            made.append(Act(settings=plain, layers=kept, shapes=shapes, train=train))
    return made


@dataclass(frozen=True)
class StepTimes:
    """Seconds at one precision: per row at each of ``lengths``, for one layer and for what is outside the layers.

    Attributes:
        layer, rest: forward and backward of a trained layer, and of everything else.
        forward, rest_forward: forward only.
        update, update_layer: the optimiser step without layers, and a layer's share.
        spread: typical relative deviation of a repeat from their mean.
    """

    lengths: npt.NDArray[np.float64]
    layer: npt.NDArray[np.float64]
    rest: npt.NDArray[np.float64]
    forward: npt.NDArray[np.float64]
    rest_forward: npt.NDArray[np.float64]
    update: float
    update_layer: float
    spread: float

    def at(self, values: npt.NDArray[np.float64], shapes: Shapes) -> npt.NDArray[np.float64]:
        """Seconds of each pass: interpolated between the lengths, proportional beyond them, times rows."""
        tokens = shapes[:, 1].astype(float)
        low, high = self.lengths[0], self.lengths[-1]
        inside = np.interp(tokens, self.lengths, values)
        scale = np.where(tokens > high, tokens / high, np.where(tokens < low, tokens / low, 1.0))
        return np.asarray(inside * scale * shapes[:, 0])


def step_times(outcome: Outcome, first: int, layers: int) -> StepTimes:
    """Read the acts of one precision, of which the first has the number ``first`` in the rehearsal."""
    short, long = min(SHORT, layers), min(LONG, layers)
    table: dict[tuple[int, int], list[float]] = defaultdict(list)
    updates: dict[int, list[float]] = defaultdict(list)
    mine = [t for t in outcome.timings if first <= t.act < first + _PASSES * _KINDS]
    for act, timings in groupby(mine, key=lambda t: t.act):
        kind, steps = (act - first) % _KINDS, list(timings)
        for tokens in {t.tokens for t in steps}:
            values = [t.compute / t.rows for t in steps if t.tokens == tokens]
            table[kind, tokens] += values[1:] or values  # the first of a shape generates code
        times = [t.update for t in steps]
        updates[kind] += times[1:] or times
    lengths = sorted(n for kind, n in table if kind == 0 and all((k, n) in table for k in range(_KINDS)))
    # means, not medians: a run is a sum, and of two speeds that a machine has it sees both
    middle = {key: fmean(values) for key, values in table.items()}
    deviations = [abs(v / middle[k] - 1) for k, values in table.items() for v in values]

    def split(one: int, many: int) -> tuple[Any, Any]:
        at_one = np.array([middle[one, n] for n in lengths])
        at_many = np.array([middle[many, n] for n in lengths])
        layer = (at_many - at_one) / (long - short) if long > short else at_one
        layer = np.maximum(layer, at_many * 0.02)
        return layer, np.maximum(at_one - short * layer, 0.0)

    layer, rest = split(0, 1)
    forward, rest_forward = split(2, 3)
    one, many = fmean(updates[0]), fmean(updates[1])
    each = max(0.0, (many - one) / (long - short)) if long > short else 0.0
    return StepTimes(
        lengths=np.array(lengths, dtype=float), layer=layer, rest=rest, forward=forward, rest_forward=rest_forward,
        update=max(0.0, one - short * each), update_layer=each,
        spread=float(np.mean(deviations)) if deviations else 0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Length:
    """How long a run is: passes over the rows, or optimiser steps if that is less."""

    epochs: float
    max_steps: int | None = None


def run_seconds(
    times: StepTimes,
    settings: Settings,
    shapes: Shapes,
    run: Length,
    *,
    layers: int,
    trained: int,
    state_bytes: int,
    weights: int = 0,
) -> float:
    """Wall time from encoded rows to the trained model, without validation and saving.

    Args:
        shapes: the passes of one epoch.
        layers, trained: all layers, and the upper ones through which gradients flow.
        state_bytes: bytes of one token's hidden state, for a cache.
        weights: number of the model's weights.
    """
    lower = layers - trained
    passes = times.at(times.rest, shapes) + trained * times.at(times.layer, shapes) + LOOP_SECONDS
    if settings.gradient_checkpointing:
        passes += trained * times.at(times.forward, shapes)
    below = lower * times.at(times.forward, shapes)
    tokens = float((shapes[:, 0] * shapes[:, 1]).sum())
    fill = 0.0
    if settings.cache_frozen:
        fill = float(below.sum()) + tokens * state_bytes / DISK_BYTES_PER_SECOND
        passes += shapes[:, 0] * shapes[:, 1] * state_bytes / DISK_BYTES_PER_SECOND
    else:
        passes += below
    steps = len(shapes) / settings.accumulation
    epoch = float(passes.sum()) + steps * (times.update + trained * times.update_layer)
    epochs = run.epochs if run.max_steps is None else min(run.epochs, run.max_steps / steps)
    return START_SECONDS + START_SECONDS_A_WEIGHT * weights + epochs * epoch + fill

"""Which rows each worker gets, so that the workers' optimiser steps are those of a single process.

The order of an epoch is drawn once from (seed, epoch), in every process alike; ``batch_size`` rows in a row are one
optimiser step. Within a step worker ``r`` of ``w`` takes every ``w``-th row from the ``r``-th, so that with rows of
like length the workers have like work, and cuts its share into micro-batches. A worker whose share of an epoch's last
step is short gets a stand-in row, which :func:`StepBatches.real` tells apart, since all workers have to take part in
every forward pass. No row is dropped and none counts twice.

transformers' samplers differ: ``LengthGroupedSampler`` draws from the global generator, accelerate hands out whole
batches in turn and repeats rows to fill up the last, so that the steps depend on the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

GROUP = 50
"""Steps whose rows are sorted together by length."""


def epoch_order(
    rows: int, batch_size: int, *, seed: int, epoch: int, lengths: Sequence[int] | None = None
) -> np.ndarray:
    """The rows of an epoch in training order, shape (rows,), int64.

    With ``lengths``, rows of like length share a step: shuffled, sorted by length within runs of ``GROUP`` steps, and
    the steps shuffled again; the step with the longest row comes first, so that running out of memory happens at once.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(rows)
    if lengths is None or rows <= batch_size:
        return order
    length = np.asarray(lengths)
    span = GROUP * batch_size
    for start in range(0, rows, span):
        run = order[start : start + span]
        order[start : start + span] = run[np.argsort(-length[run], kind="stable")]
    steps = [order[start : start + batch_size] for start in range(0, rows, batch_size)]
    short = steps.pop() if len(steps[-1]) < batch_size else None  # the incomplete step stays last
    random.shuffle(shuffled := list(range(len(steps))))
    longest = max(shuffled, key=lambda step: int(length[steps[step]].max()))
    shuffled.remove(longest)
    ordered = [steps[step] for step in (longest, *shuffled)]
    return np.concatenate(ordered + ([short] if short is not None else []))


class StepBatches:
    """A worker's micro-batches, step by step (a batch sampler for ``torch.utils.data.DataLoader``).

    Args:
        rows: rows of an epoch.
        batch_size: rows of one optimiser step over all workers.
        micro_batch_size: rows of one forward pass of a worker; ``None``: the whole share of a step.
        lengths: tokens of each row, to group rows of like length; ``None`` shuffles only.
    """

    drop_last = True  # said to accelerate, which would repeat rows otherwise

    def __init__(
        self,
        rows: int,
        batch_size: int,
        *,
        micro_batch_size: int | None = None,
        workers: int = 1,
        rank: int = 0,
        seed: int = 0,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self.rows, self.size, self.workers, self.rank = rows, batch_size, workers, rank
        self.micro_batch_size = min(micro_batch_size or batch_size, math.ceil(batch_size / workers))
        self.seed, self.lengths, self.epoch = seed, lengths, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of another epoch from now on."""
        self.epoch = epoch

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return math.ceil(self.rows / self.size)

    @property
    def accumulation(self) -> int:
        """Forward passes of a full step."""
        return self._passes(self.size)

    def __len__(self) -> int:
        full, rest = divmod(self.rows, self.size)
        return full * self.accumulation + (self._passes(rest) if rest else 0)

    def __iter__(self) -> Iterator[list[int]]:
        order = epoch_order(self.rows, self.size, seed=self.seed, epoch=self.epoch, lengths=self.lengths)
        for start in range(0, self.rows, self.size):
            step = order[start : start + self.size]
            share = step[self.rank :: self.workers].tolist()
            for number in range(self._passes(len(step))):
                micro = share[number * self.micro_batch_size : (number + 1) * self.micro_batch_size]
                yield micro or [int(step[0])]

    def real(self, step: int) -> int:
        """How many of this worker's micro-batches in step ``step`` of an epoch are its own; stand-ins follow."""
        rows = min(self.size, self.rows - step * self.size)
        return math.ceil(len(range(self.rank, rows, self.workers)) / self.micro_batch_size)

    def _passes(self, rows: int) -> int:
        return math.ceil(math.ceil(rows / self.workers) / self.micro_batch_size)

"""Which rows a step has does not depend on how many workers share it, and no row is lost or counts twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.training.distributed.step_batches import StepBatches, epoch_order

SIZES: dict[str, Any] = {
    "rows": st.integers(1, 200),
    "batch_size": st.integers(1, 40),
    "micro": st.one_of(st.none(), st.integers(1, 40)),
    "workers": st.integers(1, 9),
    "epoch": st.integers(0, 3),
    "grouped": st.booleans(),
}


def lengths_of(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(1, 60, rows)


def by_step(
    rows: int, batch_size: int, micro: int | None, workers: int, epoch: int, grouped: bool
) -> list[list[list[int]]]:
    """Own rows of each worker in each step: [step][worker][row]."""
    steps: list[list[list[int]]] = []
    counts = set()
    for rank in range(workers):
        batches = StepBatches(
            rows, batch_size, micro_batch_size=micro, workers=workers, rank=rank, seed=1,
            lengths=lengths_of(rows) if grouped else None,
        )  # fmt: skip
        batches.set_epoch(epoch)
        every = list(batches)
        counts.add(len(every))
        assert len(every) == len(batches)
        assert all(1 <= len(b) <= batches.micro_batch_size for b in every)
        if micro is not None:
            assert batches.micro_batch_size <= micro
        for step in range(batches.steps):
            mine = every[step * batches.accumulation : (step + 1) * batches.accumulation]
            own = [row for b in mine[: batches.real(step)] for row in b]
            steps.extend([] for _ in range(len(steps), step + 1))
            steps[step].append(own)
    assert len(counts) == 1  # all workers take part in all forward passes
    return steps


@settings(max_examples=150, deadline=None)
@given(**SIZES)
def test_every_row_is_in_one_step_of_one_worker(rows, batch_size, micro, workers, epoch, grouped) -> None:
    steps = by_step(rows, batch_size, micro, workers, epoch, grouped)
    assert sorted(row for step in steps for worker in step for row in worker) == list(range(rows))
    for step in steps[:-1]:
        assert sum(map(len, step)) == batch_size
    for step in steps:
        assert max(map(len, step)) - min(map(len, step)) <= 1


@settings(max_examples=100, deadline=None)
@given(**SIZES)
def test_steps_are_those_of_a_single_process(rows, batch_size, micro, workers, epoch, grouped) -> None:
    alone = by_step(rows, batch_size, None, 1, epoch, grouped)
    together = by_step(rows, batch_size, micro, workers, epoch, grouped)
    assert [sorted(row for worker in step for row in worker) for step in together] == [
        sorted(step[0]) for step in alone
    ]


def test_epochs_differ_and_seeds_decide() -> None:
    orders = [epoch_order(50, 8, seed=s, epoch=e).tolist() for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_rows_of_like_length_share_a_step() -> None:
    length = lengths_of(2000)

    def padded(order: np.ndarray) -> int:
        return sum(int(length[order[i : i + 16]].max()) * 16 for i in range(0, 2000, 16))

    grouped = epoch_order(2000, 16, seed=0, epoch=0, lengths=length)
    assert padded(grouped) < 1.1 * length.sum()
    assert padded(epoch_order(2000, 16, seed=0, epoch=0)) > 1.6 * length.sum()
    assert length[grouped[:16]].max() == length.max()
    means = [length[grouped[i : i + 16]].mean() for i in range(0, 2000, 16)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3

"""Which shapes the batches of a run will have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from deepseek.training.distributed.step_batches import epoch_order


def epoch_shapes(
    lengths: npt.NDArray[np.int64],
    batch_size: int,
    micro_batch_size: int,
    *,
    group_by_length: bool,
    seed: int = 0,
    padded: Callable[[int], int] = int,
) -> npt.NDArray[np.int64]:
    """Shapes of the forward passes of the first epoch, in its order, as (passes, 2): rows, padded tokens.

    Args:
        padded: to how many tokens a batch is padded whose longest row has so many.
    """
    order = epoch_order(
        len(lengths), batch_size, seed=seed, epoch=0, lengths=lengths.tolist() if group_by_length else None
    )
    steps = [lengths[order[i : i + batch_size]] for i in range(0, len(order), batch_size)]
    passes = [step[i : i + micro_batch_size] for step in steps for i in range(0, len(step), micro_batch_size)]
    shapes = [(len(part), padded(int(part.max()))) for part in passes]
    return np.array(shapes, dtype=np.int64).reshape(-1, 2)


def calibration_lengths(shapes: npt.NDArray[np.int64], count: int = 3) -> list[int]:
    """Up to ``count`` padded lengths at which steps are timed: spread over where the run's tokens are."""
    tokens = np.sort(shapes[:, 1])
    places = np.linspace(0.1, 0.95, count)
    picked: list[int] = []
    for place in places:
        length = int(tokens[min(len(tokens) - 1, int(place * len(tokens)))])
        if not picked or length > picked[-1] * 1.25:
            picked.append(length)
    return picked


def memory_lengths(shapes: npt.NDArray[np.int64], *, again: bool) -> list[int]:
    """Padded lengths of a few steps that show a run's peak memory, in the order in which the run has such steps.

    The longest comes first, as in each epoch of the training loop; a middle one, a long one and one between of the
    others follow.

    Args:
        again: the run comes to the longest a second time, with the optimiser's states there (a second epoch).
    """
    *rest, longest = np.sort(shapes[:, 1]).tolist()
    others = [rest[round(place * (len(rest) - 1))] for place in (0.5, 0.95, 0.75)] if rest else []
    return [longest, *others, *([longest] if again else [])]

"""Which shapes the batches of a run will have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def epoch_shapes(
    lengths: npt.NDArray[np.int64], batch_size: int, micro_batch_size: int, *, group_by_length: bool, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Shapes of the forward passes of one epoch, as (passes, 2): rows, padded tokens.

    Grouping is that of transformers' ``LengthGroupedSampler``: rows are shuffled, cut into spans of up to 50 optimiser
    steps, and sorted within a span.
    """
    order = np.random.default_rng(seed).permutation(len(lengths))
    ordered = lengths[order]
    if group_by_length:
        span = batch_size * max(1, min(len(lengths) // (batch_size * 4), 50))
        ordered = np.concatenate([np.sort(ordered[i : i + span])[::-1] for i in range(0, len(ordered), span)])
    shapes = [
        (len(part), int(part.max()))
        for i in range(0, len(ordered), micro_batch_size)
        if len(part := ordered[i : i + micro_batch_size])
    ]
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

    The longest comes first, as in each epoch of the training loop; a middle one, a long one and one between follow.

    Args:
        again: the run comes to the longest a second time, with the optimiser's states there (a second epoch).
    """
    tokens = np.sort(shapes[:, 1])
    longest = int(tokens[-1])
    others = [int(tokens[round(place * (len(tokens) - 1))]) for place in (0.5, 0.95, 0.75)]
    return [longest, *others, *([longest] if again else [])]

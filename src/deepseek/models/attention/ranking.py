"""The best of many short lists of scores.

On a CPU a list is sorted as a whole, with the vector instructions that NumPy's sort has and ``torch.topk`` has not:
several times as fast for lists of some dozens. A score and its place in the list are one number, the place in digits
that the score's type does not have.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

SPARE_BITS = {torch.bfloat16: 16, torch.float16: 13, torch.float32: 29}
"""Digits of the next wider float that a type does not use."""
ALONE = 1 << 14
"""Scores that one thread sorts sooner than two."""


def best(score: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The ``keep`` greatest along the last dimension and their places, greatest first.

    As ``torch.topk``, but which of equal scores come first. Takes no infinite scores.
    """
    length = score.shape[-1]
    spare = SPARE_BITS.get(score.dtype)
    if score.device.type != "cpu" or spare is None or length > 1 << spare:
        values, places = score.topk(keep, -1)
        return values, places
    single = score.dtype == torch.float32
    whole, wide = (torch.int64, torch.float64) if single else (torch.int32, torch.float32)
    digits = (1 << max(1, length - 1).bit_length()) - 1
    packed = score.to(wide).view(whole)
    packed = packed.bitwise_and_(~digits).bitwise_or_(torch.arange(length, dtype=whole))
    rows = packed.view(wide).view(-1, length).numpy()
    _sort(rows)
    ordered = torch.from_numpy(rows[:, : -keep - 1 : -1].copy()).view(*score.shape[:-1], keep)
    bits = ordered.view(whole)
    return (bits & ~digits).view(wide).to(score.dtype), (bits & digits).long()


def _sort(rows: np.ndarray) -> None:
    """Sort each row, in place; NumPy lets go of the interpreter while it sorts."""
    threads = torch.get_num_threads()
    if threads == 1 or rows.size <= ALONE:
        rows.sort(axis=-1)
        return
    for done in _pool(threads).map(lambda part: part.sort(axis=-1), np.array_split(rows, threads)):
        assert done is None


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="deepseek-sort")

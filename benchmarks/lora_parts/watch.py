"""Watches a training run from outside, the same way for every contestant: when each optimiser step ended.

The hook is torch's own and global, so neither transformers' Trainer nor ours has to know of it. Weights that train are
copied at chosen steps with the clock stopped; they are put back and scored on held-out rows after the run.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


class Watch:
    """``with Watch(every=132) as watch:`` around the run; ``watch.model`` is set to the model before it trains.

    Attributes:
        model: the model that trains.
        seconds: from the beginning of the block to its end, without the time that copying took.
        copies: (seconds so far, copies of the weights that train), one every ``every`` steps.
    """

    def __init__(self, every: int | None = None) -> None:
        self.model: Any = None
        self.seconds = 0.0
        self.copies: list[tuple[float, dict[str, torch.Tensor]]] = []
        self._every = every
        self._ends: list[float] = []
        self._paused = 0.0
        self._started = 0.0
        self._hook: Any = None

    def __enter__(self) -> Watch:
        self._hook = register_optimizer_step_post_hook(self._step)
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._started - self._paused
        self._hook.remove()

    @property
    def device_mb(self) -> float:
        """Most memory of tensors on a GPU at once so far, its caching allocator's count in MB; 0 on a CPU."""
        return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0

    @property
    def steps(self) -> int:
        """Optimiser steps so far."""
        return len(self._ends)

    @property
    def step_s(self) -> float:
        """Median seconds of a step; the first is left out."""
        between = [b - a for a, b in zip(self._ends, self._ends[1:], strict=False)]
        return statistics.median(between) if between else self._ends[-1]

    @property
    def mean_step_s(self) -> float:
        """Mean seconds of a step; the first is left out. Batches grouped by length differ much, so this one adds up."""
        return (self._ends[-1] - self._ends[0]) / max(1, self.steps - 1)

    @property
    def before_s(self) -> float:
        """Seconds before the first step began: encoding rows, computing what is cached."""
        return max(0.0, self._ends[0] - self.mean_step_s)

    def _step(self, *_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._ends.append(now - self._started - self._paused)
        if self._every and self.steps % self._every == 0:
            trains = ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)
            self.copies.append((self._ends[-1], {name: p.detach().clone() for name, p in trains}))
            self._paused += time.perf_counter() - now

"""The progress bar of a run: steps, loss, rows and tokens a second, time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepseek import progress

if TYPE_CHECKING:
    from transformers import TrainerCallback

EVERY = 0.2
"""Seconds between two updates of the note."""


@dataclass
class Seen:
    """What this process collated since it began: rows, their tokens without padding, and when it began."""

    rows: int = 0
    tokens: int = 0
    began: float = 0.0

    def speed(self, processes: int = 1) -> tuple[float, float]:
        """``(rows, tokens)`` a second, of all processes if they are alike."""
        seconds = max(1e-9, time.monotonic() - self.began)
        return processes * self.rows / seconds, processes * self.tokens / seconds


def watcher(
    bar: progress.Bar, seen: Seen, processes: int, on_point: Callable[[list[dict[str, Any]]], None] | None
) -> TrainerCallback:
    """A callback that moves the bar; ``on_point`` gets the log after each scoring, when the curves have a new point."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        loss: str = ""
        score: str = ""
        last = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.began = time.monotonic()
            bar.set(state.global_step, total=state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            now = time.monotonic()
            if now - self.last < EVERY and state.global_step < state.max_steps:
                return
            self.last = now
            rows, tokens = seen.speed(processes)
            speed = f"{rows:,.0f} rows/s, {tokens:,.0f} tokens/s" if tokens > rows else f"{rows:,.0f} rows/s"
            bar.set(state.global_step, note=", ".join(part for part in (self.loss, self.score, speed) if part))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in (logs or {}):
                self.loss = f"loss {float(logs['loss']):.3f}"

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            if state.best_metric is not None:
                self.score = f"best {state.best_metric:.4f}"
            if on_point is not None:
                on_point(state.log_history)

    return Watcher()

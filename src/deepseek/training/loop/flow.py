"""When to log, score, save and stop.

All that happens after a step happens in one order, log, score, save, so that a checkpoint has all that was known at
its step. (transformers' own callback saves at a step and scores at the end of the epoch that the step ends, so that a
run killed between the two would never score that epoch.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from deepseek.training.config import TrainingConfig

SCORE = "eval_"
"""What the Trainer's log puts in front of validation metrics."""


@dataclass(frozen=True)
class Flow:
    """Intervals in optimiser steps; ``None`` is never. The last step is always logged, scored and saved."""

    log: int
    evaluate: int | None
    save: int | None
    patience: int | None = None

    @classmethod
    def of(cls, settings: TrainingConfig, steps_per_epoch: int, *, validates: bool, saves: bool) -> Flow:
        """The intervals that a configuration asks for."""
        evaluate: int | None = None
        if validates and settings.evaluate != "never":
            evaluate = steps_per_epoch if settings.evaluate == "epoch" else settings.evaluate
        save: int | None = None
        if saves and settings.checkpoint is not False:
            save = steps_per_epoch if settings.checkpoint is True else settings.checkpoint
        return cls(settings.log_every, evaluate, save, settings.early_stopping if evaluate else None)


def flow_callback(flow: Flow) -> TrainerCallback:
    """The callback that sets the Trainer's switches after each step."""
    from transformers import TrainerCallback

    class FlowCallback(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            step = state.global_step
            last = step >= state.max_steps
            control.should_log = last or step % flow.log == 0
            control.should_evaluate = flow.evaluate is not None and (last or step % flow.evaluate == 0)
            control.should_save = flow.save is not None and (last or step % flow.save == 0)
            control.should_training_stop = control.should_training_stop or last
            return control

    return FlowCallback()


def scorings(history: list[dict[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """The validation scores in a Trainer's log, as (step, metrics)."""
    found = []
    for entry in history:
        metrics = {k.removeprefix(SCORE): float(v) for k, v in entry.items() if k.startswith(SCORE)}
        if metrics:
            found.append((int(entry["step"]), metrics))
    return found


def losses(history: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """The training losses in a Trainer's log, as (step, mean loss since the point before)."""
    return [(int(entry["step"]), float(entry["loss"])) for entry in history if "loss" in entry]

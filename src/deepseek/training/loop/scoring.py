"""Validation in the middle of training: the model as a task's ``score`` takes it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.errors import UnknownNameError
from deepseek.tasks import running
from deepseek.tasks.base import Generated

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from deepseek.tasks.base import Task


class ModelInTraining:
    """A transformers model as an executable (:class:`deepseek.tasks.Executable`), as training has it.

    Args:
        model: the model, not a wrapper of it.
        bfloat16: run forward passes in bfloat16 autocast, as the training steps are.
        passed: called with the number of rows after each forward pass.
    """

    def __init__(
        self, model: PreTrainedModel, *, bfloat16: bool = False, passed: Callable[[int], None] | None = None
    ) -> None:
        self.model, self._bfloat16, self._passed = model, bfloat16, passed

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with self._context():
            outputs = running.forward(self.model, batch)
        self._count(batch)
        return outputs

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        # a seed is left out: sampling draws from the state that scoring keeps apart from training's
        chosen = {name: value for name, value in options.items() if name != "seed"}
        with self._context():
            answers = running.generate(self.model, batch, {**chosen, "use_cache": True})
        self._count(batch)
        return answers

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        import torch

        with torch.no_grad(), torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._bfloat16):
            yield

    def _count(self, batch: Mapping[str, torch.Tensor]) -> None:
        if self._passed is not None:
            self._passed(len(next(iter(batch.values()))))


def score(
    model: PreTrainedModel,
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    *,
    batch_size: int,
    bfloat16: bool,
    passed: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """The task's metrics with their intervals; the model's mode and all random states are as before afterwards."""
    training = model.training
    model.eval()
    try:
        with kept_random_states(model):
            executable = ModelInTraining(model, bfloat16=bfloat16, passed=passed)
            return task.score(executable, rows, tokenizer, batch_size=batch_size)
    finally:
        model.train(training)


@contextlib.contextmanager
def kept_random_states(model: PreTrainedModel) -> Iterator[None]:
    """Whatever the block draws, training goes on with the numbers that it would have drawn anyway."""
    import numpy as np
    import torch

    devices = [model.device] if model.device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def compared_metric(metrics: Mapping[str, float], name: str) -> float:
    """The metric by which steps are compared; nan (the correlation of equal answers, say) is never better.

    Raises:
        UnknownNameError: the task has no such metric.
    """
    if name not in metrics:
        raise UnknownNameError("metric", name, metrics, hint="Set training.metric to one of the task's metrics.")
    return float(metrics[name])

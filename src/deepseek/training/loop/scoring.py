"""Validation in the middle of training: the model as a task's ``score`` takes it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.errors import UnknownNameError
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
        import torch

        device = self.model.device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
            outputs = self.model(**{k: v.to(device) for k, v in batch.items()})
        self._count(batch)
        return {k: v.float().cpu() for k, v in outputs.items() if isinstance(v, torch.Tensor)}

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        import torch

        chosen = {"do_sample": False, **options}
        chosen.pop("seed", None)  # sampling draws from the state that scoring keeps apart from training's
        if not chosen["do_sample"]:  # transformers warns of sampling settings that greedy decoding ignores
            chosen = {k: v for k, v in chosen.items() if k not in {"temperature", "top_k", "top_p"}}
            chosen.update(temperature=None, top_k=None, top_p=None)
        device = self.model.device
        inputs = {k: v.to(device) for k, v in batch.items()}
        stops = self.model.generation_config.eos_token_id
        stop_ids = {s for s in (stops if isinstance(stops, list) else [stops]) if s is not None}
        if self.model.generation_config.pad_token_id is None and stop_ids:
            chosen["pad_token_id"] = min(stop_ids)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
            sequences = self.model.generate(**inputs, **chosen, use_cache=True)
        self._count(batch)
        answers = []
        for ids in sequences[:, inputs["input_ids"].shape[1] :].tolist():
            end = next((i for i, token in enumerate(ids) if token in stop_ids), None)
            answers.append(Generated(ids[:end], "length" if end is None else "stop"))
        return answers

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

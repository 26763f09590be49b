"""The memory of a training step, found by running it without numbers.

The real model class runs a real optimiser step (forward, loss, backward, clipping, update) on fake tensors
(``torch._subclasses.FakeTensorMode``): every operation is dispatched as on the real device, shapes and types are
computed, nothing is allocated. :class:`LiveMemory` counts what is alive. So any architecture, adapter, dtype or
checkpointing setting gives its own peak, with no formula per architecture; a BERT-base step takes under a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from deepseek.errors import ConfigError
from deepseek.training.planning.heap import Heap
from deepseek.training.planning.live_memory import LiveMemory
from deepseek.training.planning.settings import Settings
from deepseek.training.planning.skeleton import trainable
from deepseek.training.planning.steps import Batch, autocast_forward, optimizer_for, step, stretched

if TYPE_CHECKING:
    from deepseek.tasks.base import Task
    from deepseek.training.recipe import TrainingRecipe


@dataclass(frozen=True)
class Footprint:
    """Bytes of tensors in a training step.

    Attributes:
        weights: parameters and buffers.
        optimizer: the optimiser's states.
        gradients: gradients of the trained weights, all alive at the end of the backward pass.
        activations: what the peak has beyond weights, states and gradients.
        peak: the largest sum that is alive at any moment.
        resident: what the process holds for them at the peak: with a CPU's heap more than ``peak`` (see
            :class:`Heap`), with a GPU the same, in blocks of 512 bytes.
        trained: number of trained weights.
    """

    weights: int
    optimizer: int
    gradients: int
    activations: int
    peak: int
    resident: int
    trained: int


def simulate(
    model: Any,
    settings: Settings,
    recipe: TrainingRecipe,
    task: Task,
    batch: Batch,
    lengths: Sequence[int],
    *,
    device: str = "cpu",
) -> Footprint:
    """Run a few optimiser steps of an adapted skeleton on fake tensors.

    Args:
        model: see :func:`deepseek.training.planning.skeleton.adapted`.
        batch: a template, see :func:`stretched`.
        lengths: padded lengths of steps of the run, in its order: what one step leaves in the heap is what the next
            one finds there, so peak memory depends on which follow which (:func:`memory_lengths`).
        device: ``"cpu"`` or ``"cuda"``, as in the real run: the operations differ.

    Raises:
        ConfigError: what the model computes depends on the values of its inputs.
    """
    mode = FakeTensorMode()
    heap = Heap()
    with mode, torch.device(device):
        ready = trainable(model, settings, lambda shape, dtype: torch.empty(shape, dtype=dtype, device=device))
        autocast_forward(ready, settings, device)
        optimizer = optimizer_for(ready, recipe.training.optimizer, recipe.training.weight_decay)
        with LiveMemory(heap if device == "cpu" else None) as memory:
            memory.hold([*ready.parameters(), *ready.buffers()])
            weights = memory.live
            states = 0
            count = min(2, settings.accumulation)
            for number, length in enumerate(lengths):
                shape = stretched(batch, settings.micro_batch_size, length)
                try:
                    step(ready, optimizer, [shape] * count, task, recipe.training.max_grad_norm)
                except DataDependentOutputException as error:
                    raise ConfigError(
                        f"what {model.config.model_type} computes for {length} tokens depends on which they are, so it "
                        "cannot be simulated; leave the plan out and set training.micro_batch_size"
                    ) from error
                if number == 0:
                    states = memory.live - weights  # made by the first update
            peak = memory.peak
    trained = [p for p in ready.parameters() if p.requires_grad]
    gradients = sum(p.numel() * p.element_size() for p in trained)
    return Footprint(
        weights=weights,
        optimizer=states,
        gradients=gradients,
        activations=max(0, peak - weights - states - gradients),
        peak=peak,
        resident=heap.peak if device == "cpu" else peak,
        trained=sum(p.numel() for p in trained),
    )

"""One optimiser step as the training loop does it, for simulation and for timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from deepseek.tasks.base import LABELS
from deepseek.training.planning.settings import Settings

if TYPE_CHECKING:
    from deepseek.tasks.base import Task

Batch = Mapping[str, torch.Tensor]


def autocast_forward(model: Any, settings: Settings, device: str) -> None:
    """Wrap ``model.forward`` as accelerate does for bf16: autocast inside, float32 outputs outside."""
    if settings.precision != "bfloat16":
        return
    from accelerate.utils import convert_outputs_to_fp32

    model.forward = convert_outputs_to_fp32(torch.autocast(device, dtype=torch.bfloat16)(model.forward))


def optimizer_for(model: Any, name: str, weight_decay: float) -> torch.optim.Optimizer:
    """The optimiser that transformers' ``Trainer`` makes for the recipe's ``optimizer``."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(weights, lr=1e-4, weight_decay=weight_decay)
    if name == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(weights, lr=1e-4, scale_parameter=False, relative_step=False)
    return torch.optim.AdamW(weights, lr=1e-4, weight_decay=weight_decay, fused=True)


def step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    batches: list[Batch],
    task: Task,
    max_grad_norm: float,
    mark: Callable[[str], None] = lambda _: None,
) -> None:
    """Forward and backward over the micro-batches, clip, update, drop the gradients.

    Args:
        mark: told the phase that begins: ``forward``, ``backward``, ``optimizer``, ``end``.
    """
    for batch in batches:
        mark("forward")
        loss = task.loss(model, batch)[0] / len(batches)
        mark("backward")
        loss.backward()
        del loss
    mark("optimizer")
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    mark("end")


def template(task: Task, config: Any) -> dict[str, torch.Tensor]:
    """A training batch of 2 rows and 4 tokens (or one image a row) as the task's collation makes them.

    It serves where the caller has no real batch to show; see :func:`stretched`.
    """
    rows, tokens = 2, 4
    if task.processor == "image-processor":
        size = config.image_size if isinstance(config.image_size, int) else max(config.image_size)
        pixels = torch.zeros(rows, getattr(config, "num_channels", 3), size, size)
        return {"pixel_values": pixels, LABELS: torch.zeros(rows, dtype=torch.long)}
    batch = {name: torch.ones(rows, tokens, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    per_token = task.head in {"causal-lm", "masked-lm", "token-classification"}
    shape = (rows, tokens) if per_token else (rows,)
    kind = torch.float if getattr(config, "problem_type", None) == "regression" else torch.long
    if getattr(config, "problem_type", None) == "multi_label_classification":
        shape, kind = (rows, config.num_labels), torch.float
    return {**batch, LABELS: torch.zeros(shape, dtype=kind)}


def stretched(batch: Batch, rows: int, tokens: int) -> dict[str, torch.Tensor]:
    """The batch in another shape: its first axis becomes ``rows``, every axis as long as its padded text ``tokens``.

    Values are ones where they are ids (a real token everywhere, so that no key is masked) and zeros elsewhere.
    """
    old_rows = max(t.shape[0] for t in batch.values() if t.dim())
    ids = batch.get("input_ids")
    old_tokens = ids.shape[1] if ids is not None and ids.dim() > 1 else -1
    made: dict[str, torch.Tensor] = {}
    for name, value in batch.items():
        shape = [tokens if i and n == old_tokens else n for i, n in enumerate(value.shape)]
        if shape and value.shape[0] % old_rows == 0:
            shape[0] = rows * (value.shape[0] // old_rows)
        fill = torch.ones if name in {"input_ids", "attention_mask"} else torch.zeros
        made[name] = fill(shape, dtype=value.dtype)
    return made

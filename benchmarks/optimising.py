"""What the steps of a benchmark that trains models share: the optimiser, a step of it, and results that are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def adamw(model: Any, rate: float, *, decay: float, betas: tuple[float, float]) -> Any:
    """AdamW; matrices decay, vectors (norms, biases) do not."""
    import torch

    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    others = [weight for weight in model.parameters() if weight.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=betas)


def take_step(model: Any, optimizer: Any, loss: Any, *, rate: float) -> None:
    """One step at a rate, gradients clipped to a norm of 1."""
    import torch

    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def keep_weights(weights: Mapping[str, Any], target: Path) -> None:
    """Write weights as a file of their own; one that is there is whole."""
    from safetensors.torch import save_file

    stage = target.with_suffix(".part")
    save_file({name: weight.detach().clone().contiguous() for name, weight in weights.items()}, stage)
    stage.replace(target)


def load_weights(model: Any, source: Path, *, without: frozenset[str] = frozenset({"lm_head.weight"})) -> None:
    """Load what :func:`keep_weights` wrote; all of the model's weights but those named have to be there."""
    from safetensors.torch import load_file

    missing, unexpected = model.load_state_dict(load_file(source), strict=False)
    if unexpected or not without.issuperset(missing):
        raise ValueError(
            f"{source} is not of this model: {sorted(set(missing) - without)} missing, {unexpected} unknown"
        )


def kept(report: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``make`` returned when it ran first, from its file; it runs where there is none."""
    if not report.is_file():
        stage = report.with_suffix(".part")
        stage.write_text(json.dumps(make()), encoding="utf-8")
        stage.replace(report)
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found

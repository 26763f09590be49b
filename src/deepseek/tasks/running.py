"""Run a transformers model as an executable does: what serving and scoring in the middle of training share.

Gradient modes, autocast and random states are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepseek.tasks.base import Generated

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def forward(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One pass on the model's device: the tensors of its outputs, float32 on the CPU."""
    import torch

    outputs = model(**{k: v.to(model.device) for k, v in batch.items()})
    return {k: v.float().cpu() for k, v in outputs.items() if isinstance(v, torch.Tensor)}


def generate(model: PreTrainedModel, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
    """Continue each prompt of a batch that is padded on the left, greedily unless ``options`` say otherwise.

    Args:
        options: transformers' generation options.
    """
    chosen = {"do_sample": False, **options}
    if not chosen["do_sample"]:  # transformers warns of sampling settings that greedy decoding ignores
        chosen.update(temperature=None, top_k=None, top_p=None)
    inputs = {k: v.to(model.device) for k, v in batch.items()}
    stops = model.generation_config.eos_token_id
    stop_ids = {s for s in (stops if isinstance(stops, list) else [stops]) if s is not None}
    if model.generation_config.pad_token_id is None and stop_ids:
        chosen["pad_token_id"] = min(stop_ids)
    sequences = model.generate(**inputs, **chosen)
    answers = []
    for ids in sequences[:, inputs["input_ids"].shape[1] :].tolist():
        end = next((i for i, token in enumerate(ids) if token in stop_ids), None)
        answers.append(Generated(ids[:end], "length" if end is None else "stop"))
    return answers

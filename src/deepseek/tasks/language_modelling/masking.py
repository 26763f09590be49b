"""Masks of masked language modelling (Devlin et al. 2018, arXiv:1810.04805).

Of the chosen tokens 80% become the mask token, 10% a random one, 10% stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.tasks.language_modelling.packing import IGNORED

if TYPE_CHECKING:
    import torch


def mask_tokens(
    input_ids: torch.Tensor,
    units: torch.Tensor,
    mask_token: int,
    *,
    vocabulary: int,
    probability: float,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Corrupt a batch.

    Args:
        input_ids: (batch, tokens).
        units: (batch, tokens): what is chosen as a whole, numbered from 0 in each row (tokens, or words for
            whole-word masking); -1 is never chosen (special tokens, padding).
        mask_token: its id.
        vocabulary: random tokens have ids below it.
        probability: of each unit to be chosen; at least one is in each row that has any.
        generator: what is drawn from; torch's own when ``None``.

    Returns:
        Corrupted ids and labels, both (batch, tokens); labels are -100 where nothing is to be predicted.
    """
    import torch

    eligible = units >= 0
    width = int(units.max()) + 1 if units.numel() else 0
    if width <= 0:
        return input_ids, torch.full_like(input_ids, IGNORED)
    draws = torch.rand((len(units), width), generator=generator)
    draw = draws.gather(1, units.clamp(min=0)).masked_fill(~eligible, 2.0)
    limit = draw.min(1, keepdim=True).values.clamp(min=probability)
    chosen = eligible & ((draw < probability) | (draw == limit))
    labels = input_ids.masked_fill(~chosen, IGNORED)
    kind = torch.rand(input_ids.shape, generator=generator)
    anything = torch.randint(vocabulary, input_ids.shape, generator=generator)
    corrupted = torch.where(chosen & (kind < 0.8), mask_token, input_ids)
    return torch.where(chosen & (kind >= 0.9), anything, corrupted), labels

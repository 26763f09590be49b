"""Lengths of the single rows that an int8 model runs in OpenVINO: few of them.

Kernels are made for each length when it first comes, and another length than the last one's costs each time. A single
row is short of work anyway, so its length is rounded up; several rows run as they are, since padding is work there.
"""

from __future__ import annotations

from typing import Any

from deepseek.inference.recording import Batch

STEP = 8
"""A single row's tokens are a multiple of it: measured against 16 and none on sentences of two encoders."""
MASK = "attention_mask"


def longer(given: dict[str, Any], limit: int | None) -> dict[str, Any] | None:
    """The inputs with masked tokens at the end of each row; ``None`` where they stay as they are.

    Args:
        given: NumPy arrays by name; those of a token each are (rows, tokens).
        limit: the most tokens that the model takes.
    """
    import numpy as np

    mask = given.get(MASK)
    if mask is None or mask.ndim != 2:
        return None
    rows, tokens = mask.shape
    more = better_length(rows, tokens, limit) - tokens
    if not more:
        return None
    return {n: np.pad(v, ((0, 0), (0, more))) if v.shape == mask.shape else v for n, v in given.items()}


def better_length(rows: int, tokens: int, limit: int | None) -> int:
    """Tokens that a batch of ``tokens`` is to have: as many, or some more, within the limit."""
    return tokens if rows > 1 else max(tokens, min(-(-tokens // STEP) * STEP, limit or tokens + STEP))


def cut(outputs: Batch, before: int, after: int) -> dict[str, Any]:
    """Outputs of a batch that was made longer, as if it had not been: those of a token each lose what was added.

    Args:
        outputs: tensors by name, (rows, ``after``, ...) where they have a row per token.
        before, after: tokens of the batch.
    """
    return {n: v[:, :before] if v.ndim > 2 and v.shape[1] == after else v for n, v in outputs.items()}

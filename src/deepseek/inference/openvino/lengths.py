"""Lengths of the batches that an int8 model runs in OpenVINO: few of them, and none at which its attention goes wrong.

OpenVINO 2026.4 fuses the attention of int8 models into one kernel. Where the rest is in bfloat16 and there are as many
tokens as a head has numbers, and these are 16 or 32, that kernel leaves out part of the values: MiniLM's logits at 32
tokens were off by up to 3.3, at 31 and 33 by 0.2 as everywhere. A batch of such a length gets one masked token more.

Kernels are made for each length when it first comes, and another length than the last one's costs each time. A single
row is short of work anyway, so its length is rounded up; several rows run as they are, since padding is work there.
"""

from __future__ import annotations

from typing import Any

from deepseek.inference.recording import Batch

AVOIDED = (16, 32)
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
    most = limit or tokens + STEP
    found = tokens if rows > 1 else max(tokens, min(-(-tokens // STEP) * STEP, most))
    return found + 1 if found in AVOIDED and found < most else found


def cut(outputs: Batch, before: int, after: int) -> dict[str, Any]:
    """Outputs of a batch that was made longer, as if it had not been: those of a token each lose what was added.

    Args:
        outputs: tensors by name, (rows, ``after``, ...) where they have a row per token.
        before, after: tokens of the batch.
    """
    return {n: v[:, :before] if v.ndim > 2 and v.shape[1] == after else v for n, v in outputs.items()}

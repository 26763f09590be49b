"""Lengths at which OpenVINO's 8-bit attention answers wrongly, and batches that keep clear of them.

OpenVINO 2026.4 fuses the attention of int8 models into one kernel. Where the rest is in bfloat16 and there are as many
tokens as a head has numbers, and these are 16 or 32, that kernel leaves out part of the values: MiniLM's logits at 32
tokens were off by up to 3.3, at 31 and 33 by 0.2 as everywhere. A batch of such a length gets one masked token more.
"""

from __future__ import annotations

from typing import Any

from deepseek.inference.recording import Batch

AVOIDED = (16, 32)
MASK = "attention_mask"


def longer(given: dict[str, Any], limit: int | None) -> dict[str, Any] | None:
    """The inputs with a masked token more at the end of each row; ``None`` where that is not needed, or not possible.

    Args:
        given: NumPy arrays by name; those of a token each are (rows, tokens).
        limit: the most tokens that the model takes.
    """
    import numpy as np

    mask = given.get(MASK)
    if mask is None or mask.ndim != 2 or mask.shape[1] not in AVOIDED or mask.shape[1] == limit:
        return None
    return {n: np.pad(v, ((0, 0), (0, 1))) if v.shape == mask.shape else v for n, v in given.items()}


def cut(outputs: Batch, tokens: int) -> dict[str, Any]:
    """Outputs of a batch that was made one token longer, as if it had not been: those of a token each lose the last.

    Args:
        outputs: tensors by name, (rows, tokens + 1, ...) where they have a row per token.
    """
    return {n: v[:, :tokens] if v.ndim > 2 and v.shape[1] == tokens + 1 else v for n, v in outputs.items()}

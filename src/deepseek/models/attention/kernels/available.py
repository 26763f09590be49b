"""Whether the kernels can compute a call; nothing of Triton."""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.kernels.tiling import (
    DTYPES,
    LEAST,
    MOST_DISTANCES,
    MOST_FEATURES,
    MOST_WIDTH,
    fits_exactly,
)

logger = logging.getLogger("deepseek.models")


def kernels_take(q: Tensor, k: Tensor, v: Tensor, r: Tensor, layout: BlockLayout, scale: float) -> bool:
    """Whether the tensors are on a GPU, and the kernels take them. If the kernels do not, the log says why, once."""
    if not q.is_cuda:  # as ROCm's devices are called too
        return False
    reason = why_not(q, k, v, r, layout, scale)
    if reason is not None:
        _say(reason)
    return reason is None


def why_not(q: Tensor, k: Tensor, v: Tensor, r: Tensor, layout: BlockLayout, scale: float) -> str | None:
    """What is in the way of the kernels, wherever the tensors are; ``None`` if nothing is."""
    width, features, values, distances = layout.width, q.shape[-1], v.shape[-1], r.shape[1]
    if find_spec("triton") is None:
        return "Triton is not here; install it with: pip install triton"
    if not LEAST <= width <= MOST_WIDTH or width & (width - 1):
        return f"expected blocks of 16, 32, 64 or 128 tokens, received {width}"
    if max(features, values) > MOST_FEATURES or distances > MOST_DISTANCES:
        return (
            f"expected at most {MOST_FEATURES} features and {MOST_DISTANCES} distances, received {features} and "
            f"{values}, and {distances}"
        )
    if q.dtype not in DTYPES or not q.dtype == k.dtype == v.dtype:
        return f"expected one precision of float16, bfloat16 or float32, received {q.dtype}, {k.dtype} and {v.dtype}"
    rocm = torch.version.hip is not None
    if q.dtype == torch.float32 and not fits_exactly(width, features, values, rocm=rocm):
        return (
            f"expected at most blocks of 64 tokens, {'or' if rocm else 'and'} 80 features and 64 values, in float32, "
            f"received {width}, {features} and {values}"
        )
    if not scale > 0:
        return f"expected a scale above 0, received {scale}"
    return None


@cache
def _say(reason: str) -> None:
    logger.warning("gated block attention runs on the GPU without its kernels, slower: %s", reason)

"""Kernels of decoding, in Triton for NVIDIA and AMD GPUs, each beside a reference in plain PyTorch.

Generating a token reads all weights and the whole key-value cache once, and does little with them: what counts is how
many bytes are read, and how near to the memory's bandwidth. Off a GPU the references answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.inference.kernels.paged_attention import decode_attention
    from deepseek.inference.kernels.weight_only import PackedInt4, PackedInt8, pack_int4, pack_int8, weight_only_matmul

_PUBLIC = {
    "PackedInt4": "deepseek.inference.kernels.weight_only",
    "PackedInt8": "deepseek.inference.kernels.weight_only",
    "decode_attention": "deepseek.inference.kernels.paged_attention",
    "pack_int4": "deepseek.inference.kernels.weight_only",
    "pack_int8": "deepseek.inference.kernels.weight_only",
    "weight_only_matmul": "deepseek.inference.kernels.weight_only",
}

__all__ = ["PackedInt4", "PackedInt8", "decode_attention", "pack_int4", "pack_int8", "weight_only_matmul"]


__getattr__ = names_of(__name__, _PUBLIC)

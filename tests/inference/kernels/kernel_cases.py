"""Inputs for the kernels, and how far their answers are from the references'.

    TRITON_INTERPRET=1 python kernel_cases.py       all cases in Triton's interpreter on the CPU; prints JSON by name
    python kernel_cases.py cuda                     all and larger ones on a GPU, also where there is no pytest

The interpreter multiplies the bit patterns of bfloat16 as integers (Triton 3.9), so that bfloat16 needs a GPU.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import torch

from deepseek.inference.kernels.paged_attention import BLOCK, check_attention, reference_attention
from deepseek.inference.kernels.weight_only import pack_int4, pack_int8, reference_matmul


@dataclass(frozen=True, kw_only=True)
class AttentionCase:
    """``splits`` of 0: as the launch chooses, which takes a GPU."""

    heads: int
    kv_heads: int
    width: int
    lengths: tuple[int, ...]
    splits: int
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        lengths = "-".join(map(str, self.lengths))
        return f"{self.heads}q{self.kv_heads}kv{self.width}d-{lengths}-in{self.splits}-{str(self.dtype)[6:]}"

    def inputs(
        self, device: str = "cpu"
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, caches, tables (scattered blocks; entries past a length name no block of the cache) and lengths."""
        draw = torch.Generator().manual_seed(len(str(self)))
        batch, longest = len(self.lengths), -(-max(self.lengths) // BLOCK) + 2
        blocks = batch * longest + 3

        def numbers(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draw).to(self.dtype).to(device)

        tables = torch.randperm(blocks, generator=draw)[: batch * longest].view(batch, longest).int()
        for row, length in enumerate(self.lengths):
            tables[row, -(-length // BLOCK) :] = 1 << 30
        cache = (blocks, BLOCK, self.kv_heads, self.width)
        lengths = torch.tensor(self.lengths, dtype=torch.int32, device=device)
        return numbers(batch, self.heads, self.width), numbers(*cache), numbers(*cache), tables.to(device), lengths

    def error(self, device: str = "cpu") -> float:
        """The greatest difference."""
        from deepseek.inference.kernels.triton_attention import launch_attention

        inputs = self.inputs(device)
        check_attention(*inputs)
        scale = self.width**-0.5
        found = launch_attention(*inputs, scale, self.splits or None)
        return float((found.float() - reference_attention(*inputs, scale).float()).abs().max())


@dataclass(frozen=True, kw_only=True)
class MatmulCase:
    """``group`` of 0: int8."""

    rows: int
    inputs: int
    outputs: int
    group: int
    splits: int
    dtype: torch.dtype = torch.float16

    def __str__(self) -> str:
        kind = f"int4g{self.group}" if self.group else "int8"
        return f"{kind}-{self.rows}x{self.inputs}x{self.outputs}-in{self.splits}-{str(self.dtype)[6:]}"

    def error(self, device: str = "cpu") -> float:
        """The greatest difference from exact products, as a share of the greatest product."""
        from deepseek.inference.kernels.triton_weight_only import Tiling, launch_matmul

        draw = torch.Generator().manual_seed(len(str(self)))
        weight = torch.randn(self.outputs, self.inputs, generator=draw) * 0.05 + 0.01
        x = torch.randn(self.rows, self.inputs, generator=draw).to(self.dtype)
        packed = pack_int4(weight, self.group) if self.group else pack_int8(weight)
        found = launch_matmul(x.to(device), packed.to(device), Tiling(splits=self.splits or None))
        expected = reference_matmul(x.double(), packed)
        return float((found.cpu().double() - expected).abs().max() / expected.abs().max())


RATIOS = ((4, 4), (8, 2), (8, 1))
ATTENTION = [
    AttentionCase(heads=heads, kv_heads=kv_heads, width=width, lengths=lengths, splits=splits)
    for heads, kv_heads in RATIOS
    for width in (64, 128)
    for lengths, splits in (((1,), 1), ((16,), 1), ((17, 3), 1), ((150, 40, 1), 3))
]
ATTENTION += [
    AttentionCase(heads=4, kv_heads=1, width=64, lengths=(0, 70, 0, 257), splits=2),  # empty places of the batch
    AttentionCase(heads=4, kv_heads=1, width=64, lengths=(0, 31), splits=1),
    AttentionCase(heads=8, kv_heads=2, width=128, lengths=(90, 33), splits=2, dtype=torch.float16),
    AttentionCase(heads=2, kv_heads=2, width=64, lengths=(48,), splits=1, dtype=torch.float16),
    AttentionCase(heads=24, kv_heads=1, width=16, lengths=(20,), splits=1),  # more heads than 16 share one
]
MATMULS = [
    MatmulCase(rows=rows, inputs=inputs, outputs=outputs, group=group, splits=splits)
    for rows, inputs, outputs, group, splits in (
        (1, 128, 64, 128, 1), (1, 256, 80, 32, 3), (5, 320, 64, 64, 2), (17, 384, 130, 128, 3), (1, 128, 64, 0, 1),
        (4, 300, 80, 0, 2), (33, 256, 64, 0, 1),
    )
]  # fmt: skip
ON_GPU = [
    AttentionCase(heads=32, kv_heads=8, width=128, lengths=lengths, splits=0, dtype=dtype)
    for lengths in ((5000,), (511, 1, 0, 4096))
    for dtype in (torch.bfloat16, torch.float16, torch.float32)
]
ON_GPU += [
    MatmulCase(rows=rows, inputs=4096, outputs=11008, group=group, splits=0, dtype=dtype)
    for rows in (1, 8, 64)
    for group in (32, 64, 128, 0)
    for dtype in (torch.bfloat16, torch.float16)
]


def allowed(case: AttentionCase | MatmulCase) -> float:
    """The greatest error that rounding explains."""
    return {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[case.dtype]


if __name__ == "__main__":
    device = sys.argv[1] if sys.argv[1:] else "cpu"
    cases = [*ATTENTION, *MATMULS, *(ON_GPU if device != "cpu" else [])]
    errors = {case: case.error(device) for case in cases}
    print(json.dumps({str(case): error for case, error in errors.items()}))
    wrong = [str(case) for case, error in errors.items() if not error <= allowed(case)]
    sys.exit(f"too far from the reference: {', '.join(wrong)}" if wrong else 0)

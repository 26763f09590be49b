"""Gated block attention by the Triton kernels against the reference: outputs and all gradients.

    TRITON_INTERPRET=1 python attention_kernel_cases.py     small cases in Triton's interpreter on the CPU; prints JSON by name
    python attention_kernel_cases.py cuda                   the same and larger ones on a GPU, also where there is no pytest

Errors are shares of the reference's greatest number; the reference computes in float64 from the same rounded inputs.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from unittest import mock

import torch

from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.gate import Choice, choose
from deepseek.models.attention.pooling import pool_blocks
from deepseek.models.attention.reference import reference_attention


@dataclass(frozen=True, kw_only=True)
class Case:
    """Attention of ``heads`` heads over ``tokens`` tokens in blocks of ``width``.

    ``choice`` of "all" attends to all blocks. ``padding``: the second text of two lacks so many tokens at its end, and
    one of its blocks is padding in the middle. ``features``: of queries and keys, of these content, and of values.
    ``cut``: lists of key blocks are in segments of so many tiles, and heads go through the kernels one by one.
    """

    tokens: int
    width: int
    choice: str = "block"
    causal: bool = False
    padding: int = 0
    heads: int = 2
    features: tuple[int, int, int] = (16, 16, 16)
    local: int = 1
    sinks: int = 1
    rate: float = 0.5
    cut: int = 0
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        features = "-".join(map(str, self.features))
        side = "causal" if self.causal else "both"
        return (
            f"{self.tokens}by{self.width}-{self.choice}-{side}-pad{self.padding}-{self.heads}h{features}"
            f"-near{self.local}-{self.sinks}-cut{self.cut}-{str(self.dtype)[6:]}"
        )

    @property
    def layout(self) -> BlockLayout:
        return BlockLayout(
            width=self.width, causal=self.causal, local=self.local, sinks=self.sinks, rate=self.rate,
            roots=4, branching=2, beam=3, buckets=9, least=1,
        )  # fmt: skip

    def errors(self, device: str = "cpu") -> dict[str, float]:
        """The greatest difference of the output and of each gradient, as a share of the reference's greatest number."""
        from deepseek.models.attention.kernels import launches, lists
        from deepseek.models.attention.kernels.function import kernel_attention

        draw = torch.Generator().manual_seed(len(str(self)))
        layout, (features, content, values) = self.layout, self.features
        batch, blocks = (2 if self.padding else 1), layout.blocks(self.tokens)

        def numbers(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=draw).to(self.dtype).to(device)

        # as projections give them, [B, T, H, E]: rows are not next to each other
        q, k = (numbers(batch, self.tokens, self.heads, features).transpose(1, 2) for _ in "qk")
        v, grad = (numbers(batch, self.tokens, self.heads, values).transpose(1, 2) for _ in "vg")
        r = numbers(self.heads, layout.sides * layout.buckets, content)
        mask = torch.ones(batch, self.tokens, dtype=torch.bool, device=device)
        if self.padding:
            mask[1, self.tokens - self.padding :] = False
            mask[1, self.width : 2 * self.width] = False
        leaves = pool_blocks(k[..., :content], numbers(self.heads, content), self.width, mask)
        s = 2 * leaves.keys
        chosen = None
        if self.choice != "all":
            kind: Choice = "block" if self.choice == "block" else "token"
            chosen = choose(q[..., :content], leaves, r, layout, choice=kind, query_mask_BT=mask)
        inputs = [x.detach().requires_grad_() for x in (q, k, v, s, r)]
        exact = [x.detach().double().requires_grad_() for x in inputs]
        scale, key_mask = features**-0.5, mask if self.padding else None
        expected = reference_attention(*exact, layout, scale=scale, chosen=chosen, key_mask_BT=key_mask)
        asked = every_far_block(layout, blocks).expand(batch, self.heads, -1, -1) if chosen is None else chosen
        counted = mask[:, None, :, None]  # what a query that is padding gets is nobody's concern
        with ExitStack() as stack:
            if self.cut:
                stack.enter_context(mock.patch.object(launches, "PAIR_BYTES", 1))
                stack.enter_context(mock.patch.object(launches, "LEAST_SEGMENT", self.cut))
                stack.enter_context(mock.patch.object(lists, "LISTS_A_ROW", 0))
            found = kernel_attention(*inputs, layout, scale=scale, chosen=asked.to(device), key_mask_BT=key_mask)
            grads = torch.autograd.grad(found, inputs, grad * counted)
        expected_grads = torch.autograd.grad(expected, exact, (grad * counted).double())
        pairs = zip([found * counted, *grads], [expected * counted, *expected_grads], strict=True)
        with torch.no_grad():
            errors = [float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in pairs]
        return dict(zip(("out", "q", "k", "v", "s", "r"), errors, strict=True))


def every_far_block(layout: BlockLayout, blocks: int) -> torch.Tensor:
    """(N, N), what "all" asks for; sinks are there without."""
    own, every = torch.arange(blocks)[:, None], torch.arange(blocks)
    return torch.where(layout.is_far(own - every) & (every >= layout.sinks), every, -1)


ODD = (20, 12, 8)
SMALL = [
    Case(tokens=80, width=16, padding=5, features=ODD),
    Case(tokens=70, width=32, local=0, sinks=2, features=(80, 64, 16), heads=1),
    Case(tokens=80, width=16, features=(48, 40, 24), padding=16, heads=1),
    Case(tokens=24, width=16, features=ODD),
    Case(tokens=7, width=16),
    Case(tokens=75, width=16, padding=21, heads=1, cut=2),
    Case(tokens=290, width=16, choice="all", causal=True, heads=1),  # more than 16 slots
    Case(tokens=70, width=16, choice="all", heads=1, padding=9),
    Case(tokens=80, width=16, choice="token", causal=True),
    Case(tokens=75, width=16, choice="token", causal=True, padding=11, features=ODD),
    Case(tokens=96, width=16, choice="token", causal=True, features=(48, 40, 24), local=0, sinks=0, heads=1),
    Case(tokens=70, width=16, choice="token", features=(80, 64, 16), local=0, heads=1),
    Case(tokens=17, width=16, choice="token", causal=True),
    Case(tokens=260, width=128, choice="token", causal=True, heads=1, local=0, sinks=0),
    Case(tokens=80, width=16, choice="token", causal=True, padding=21, heads=1, cut=1),
    Case(tokens=200, width=64, heads=1, local=0, sinks=0, features=(64, 48, 64), dtype=torch.float16),
    Case(tokens=75, width=16, choice="token", causal=True, padding=11, heads=1, features=ODD, dtype=torch.float16),
    Case(tokens=120, width=32, padding=21, local=0, sinks=0, heads=1, features=ODD, dtype=torch.bfloat16),
    Case(tokens=75, width=16, choice="token", causal=True, heads=1, features=(64, 48, 64), dtype=torch.bfloat16),
]
LARGE = [
    Case(
        tokens=tokens, width=width, choice=choice, causal=causal, padding=300, features=features, rate=1.0, dtype=dtype
    )
    for dtype in (torch.bfloat16, torch.float16, torch.float32)
    for tokens, width in ((2048, 32), (4000, 64), (4096, 128))
    for choice, causal in (("block", False), ("token", True), ("all", False))
    for features in ((64, 48, 64), (80, 64, 64), (128, 128, 128))
    if dtype != torch.float32 or (features[0] < 128 and width < 128)
]


def allowed(case: Case) -> float:
    """The greatest error that rounding explains."""
    return {torch.float32: 1e-5, torch.float16: 6e-3, torch.bfloat16: 4e-2}[case.dtype]


def multiply_bfloat16() -> None:
    """Have Triton's interpreter multiply bfloat16 as numbers; it takes their bits for integers (Triton 3.9)."""
    import numpy as np
    from triton.language import bfloat16
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
        left, right = (
            (x.data.astype(np.uint32) << 16).view(np.float32) if x.dtype.scalar == bfloat16 else x.data for x in (a, b)
        )
        return TensorHandle(np.matmul(left, right, dtype=d.data.dtype) + d.data, d.dtype.scalar)

    InterpreterBuilder.create_dot = create_dot


if __name__ == "__main__":
    device = sys.argv[1] if sys.argv[1:] else "cpu"
    if device == "cpu":
        multiply_bfloat16()
    cases = [*SMALL, *(LARGE if device != "cpu" else [])]
    errors = {case: case.errors(device) for case in cases}
    print(json.dumps({str(case): each for case, each in errors.items()}))
    wrong = [str(case) for case, each in errors.items() if not max(each.values()) <= allowed(case)]
    sys.exit(f"too far from the reference: {', '.join(wrong)}" if wrong else 0)

"""Random inputs of attention, small and of every shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout
from deepseek.models.attention.gate import Choice, choose
from deepseek.models.attention.pooling import Level, pool_blocks

HEADS, CONTENT, KEYS, VALUES = 3, 24, 32, 16
SCALE = KEYS**-0.5


@dataclass(frozen=True, kw_only=True)
class Case:
    q: Tensor
    k: Tensor
    v: Tensor
    s: Tensor
    r: Tensor
    mask: Tensor
    leaves: Level
    layout: BlockLayout

    def chosen(self, choice: Choice) -> Tensor:
        content = SCALE * self.q[..., :CONTENT]
        return choose(content, self.leaves, self.r, self.layout, choice=choice, query_mask_BT=self.mask)

    def differentiable(self) -> tuple[Tensor, ...]:
        return self.q, self.k, self.v, self.s, self.r


def case(
    layout: BlockLayout,
    tokens: int,
    *,
    batch: int = 2,
    padding: int = 0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Case:
    """``padding`` tokens at the end of the second text are none."""
    noise = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=noise).to(dtype).requires_grad_()

    q, k = normal(batch, HEADS, tokens, KEYS), normal(batch, HEADS, tokens, KEYS)
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    if padding:
        mask[-1, tokens - padding :] = False
    leaves = pool_blocks(k.detach()[..., :CONTENT], normal(HEADS, CONTENT).detach(), layout.width, mask)
    return Case(
        q=q,
        k=k,
        v=normal(batch, HEADS, tokens, VALUES),
        s=(0.7 * leaves.keys).requires_grad_(),
        r=normal(HEADS, layout.sides * layout.buckets, CONTENT),
        mask=mask,
        leaves=leaves,
        layout=layout,
    )


def with_gradients(
    *attended: tuple[Callable[..., Tensor], Case], chosen: Tensor | None, weights: Tensor
) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """What each attention gives of a case: outputs of real tokens, and gradients of all inputs."""
    found = []
    for attend, case in attended:
        out = attend(*case.differentiable(), case.layout, scale=SCALE, chosen=chosen, key_mask_BT=case.mask)
        out = out * case.mask[:, None, :, None]
        found.append((out.detach(), torch.autograd.grad((out * weights).sum(), case.differentiable())))
    return found

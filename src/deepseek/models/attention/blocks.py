"""Tokens in blocks, and how far blocks are apart: what the gate, its positions and every kernel agree on.

A sequence of T tokens is cut into N = ceil(T / width) blocks. To a query block I the key blocks J with
``|I - J| <= local`` are *near*: they are always attended to. The others are *far*: the first ``sinks`` of the sequence
are attended to by all, of the rest the gate chooses ``chosen(N)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deepseek.errors import ConfigError

PER_OCTAVE = 2
"""Distance buckets for every doubling of the distance."""


@dataclass(frozen=True, kw_only=True)
class BlockLayout:
    """How attention is cut into blocks.

    Attributes:
        width: tokens of a block.
        local: blocks on each side of a query's own that are always attended to (causal: only before it).
        sinks: first blocks of the sequence that are attended to by all.
        rate: far blocks that the gate chooses, as a multiple of log2 of the number of blocks.
        least: far blocks that it chooses at least, where there are so many: among few blocks, fewer would save little.
        buckets: distances that are told apart, to each side; beyond the last one all are alike.
        branching: children of a node in the tree of pooled keys.
        beam: nodes of a level that are followed down; no fewer than blocks are chosen.
        roots: the search begins at the lowest level with at most so many nodes, and looks at all of these; by default
            256 or, where each token has few before it and pays for each level by itself (causal), 512.
        causal: a token sees none after it.

    Raises:
        ConfigError: a number is out of its range.
    """

    width: int = 64
    local: int = 1
    sinks: int = 1
    rate: float = 1.0
    least: int = 8
    buckets: int = 20
    branching: int = 4
    beam: int = 8
    roots: int | None = None
    causal: bool = False

    def __post_init__(self) -> None:
        lowest = {
            "width": 1, "local": 0, "sinks": 0, "least": 1, "buckets": 1, "branching": 2, "beam": 1, "roots": 1,
        }  # fmt: skip
        for name, low in lowest.items():
            value = self.top if name == "roots" else getattr(self, name)
            if value < low:
                raise ConfigError(f"{name} of a block layout: expected {low} or more, received {value}")
        if not self.rate > 0:
            raise ConfigError(f"rate of a block layout: expected more than 0, received {self.rate}")

    @property
    def sides(self) -> int:
        """Directions in which keys lie: 1 if causal, else 2."""
        return 1 if self.causal else 2

    @property
    def top(self) -> int:
        """The number of nodes that the search begins with, at most."""
        return (512 if self.causal else 256) if self.roots is None else self.roots

    @property
    def near(self) -> int:
        """Blocks of a query block's neighbourhood, its own among them."""
        return 1 + self.local * self.sides

    def blocks(self, tokens: int) -> int:
        """N, the number of blocks of so many tokens."""
        return -(-tokens // self.width)

    def chosen(self, blocks: int) -> int:
        """Far blocks that the gate chooses for a query among N blocks: O(log N)."""
        return max(self.least, math.ceil(self.rate * math.log2(blocks))) if blocks > 1 else 1

    def complete(self, blocks: int) -> bool:
        """Whether near blocks, sinks and chosen ones are all N there are, so that the gate leaves nothing out."""
        return self.near + self.sinks + self.chosen(blocks) >= blocks

    def neighbourly(self, blocks: int) -> bool:
        """Whether all blocks are near to each other."""
        return blocks <= self.local + 1

    def bucket(self, delta: Tensor) -> Tensor:
        """The distance bucket of far blocks, log-spaced.

        Args:
            delta: query block minus key block, any shape. Near ones get some bucket, which has no meaning.

        Returns:
            Integers below ``sides * buckets``; keys after the query have the second half.
        """
        ratio = delta.abs().clamp(min=self.local + 1).float() / (self.local + 1)
        index = (PER_OCTAVE * ratio.log2()).floor().to(delta.dtype).clamp_(max=self.buckets - 1)
        return index if self.causal else torch.where(delta < 0, index + self.buckets, index)

    def is_far(self, delta: Tensor) -> Tensor:
        """Whether key blocks at this distance are far (and, if causal, in the past)."""
        return delta > self.local if self.causal else delta.abs() > self.local

    def is_choosable(self, own: Tensor, node: Tensor) -> Tensor:
        """Whether the gate of a query in block ``own`` may choose block ``node``: a far one that is no sink."""
        return self.is_far(own - node) & (node >= self.sinks)

    def to_middle(self, own: Tensor, node: Tensor, span: int) -> Tensor:
        """Blocks from a query's to the middle of a node of ``span`` blocks: the distance at which it is scored."""
        return own - (node * span + (span - 1) // 2)

    def is_whole(self, own: Tensor, node: Tensor, span: int) -> Tensor:
        """Whether all blocks of a node are far before a causal query's, so that its summary holds nothing later."""
        return (node + 1) * span <= own - self.local

    def near_slots(self, blocks: int, device: torch.device | str = "cpu") -> Tensor:
        """The blocks that every query block attends to without asking.

        Returns:
            (N, near + sinks), int64: first the neighbourhood in order, then those sinks that are far; -1 for none.
        """
        own = torch.arange(blocks, device=device)[:, None]
        around = own + torch.arange(-self.local, self.near - self.local, device=device)
        around = torch.where((around >= 0) & (around < blocks), around, -1)
        sinks = torch.arange(self.sinks, device=device).expand(blocks, -1)
        sinks = torch.where(self.is_far(own - sinks) & (sinks < blocks), sinks, -1)
        return torch.cat([around, sinks], 1)


LOW = -1e30
"""Float32 logit of what is hidden."""


def low(dtype: torch.dtype) -> float:
    """The logit of what is hidden, with room to add to it: half of the type's least number."""
    return float(torch.finfo(dtype).min) / 2


def members(slots: Tensor, blocks: int) -> Tensor:
    """(..., S) block numbers, -1 for none, as (..., N) booleans."""
    shape = (*slots.shape[:-1], blocks + 1)
    found = torch.zeros(shape, dtype=torch.bool, device=slots.device)
    return found.scatter_(-1, slots.long() % (blocks + 1), True)[..., :blocks]  # -1 is the last column


def to_blocks(x: Tensor, width: int) -> Tensor:
    """(..., T, F) as (..., N, width, F), zeros behind the last token."""
    missing = -x.shape[-2] % width
    if missing:
        x = torch.nn.functional.pad(x, (0, 0, 0, missing))
    return x.unflatten(-2, (-1, width))

"""Who attends to whom, as the kernels read it: plain PyTorch, on any device, without waiting for it.

Forward kernels go by query, those of the keys' gradients by key. A list's length depends on what was chosen, which the
host does not know: kernels are launched for as many programs as there can be, and those beyond the end return at once.

G is batches and heads, N blocks, S slots of a query block, k picks of a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepseek.models.attention.blocks import BlockLayout

LISTS_A_ROW = 4
"""Lists for each row of the buffer of :class:`Segments` at least, which bounds its memory by a share of the keys'."""


def bucket_of(layout: BlockLayout, blocks: int, device: torch.device) -> Tensor:
    """(2 N - 1) int32: the distance bucket of query block minus key block, from 1 - N on; -1 where it is not far."""
    delta = torch.arange(1 - blocks, blocks, device=device)
    return torch.where(layout.is_far(delta), layout.bucket(delta), -1).int()


@dataclass(frozen=True)
class Slots:
    """The key blocks of each query block.

    Attributes:
        slots: (G, N, S) int32; what follows the first ``counts`` has no meaning.
        counts: (G, N) int32.
    """

    slots: Tensor
    counts: Tensor

    @classmethod
    def of(
        cls, layout: BlockLayout, blocks: int, groups: int, chosen_GNk: Tensor | None, device: torch.device
    ) -> Slots:
        """Near blocks, sinks and, if given, the chosen ones, without what is none (-1)."""
        all_slots = layout.near_slots(blocks, device).expand(groups, -1, -1)
        if chosen_GNk is not None:
            all_slots = torch.cat([all_slots, chosen_GNk], -1)
        some = all_slots >= 0
        counts = some.sum(-1)
        # those that are none all go to a column behind the last
        place = torch.where(some, some.cumsum(-1) - 1, all_slots.shape[-1])
        slots = torch.zeros(*place.shape[:-1], place.shape[-1] + 1, dtype=torch.int32, device=device)
        slots.scatter_(-1, place, all_slots.int())
        return cls(slots[..., :-1].contiguous(), counts.int())


@dataclass(frozen=True)
class Entries:
    """The same by key block.

    Attributes:
        entries: int32 query blocks; those of the first key block first, and of each the far ones first.
        starts: (2 G N + 1) int32, where in ``entries`` the far and the near ones of a key block begin.
    """

    entries: Tensor
    starts: Tensor

    @classmethod
    def of(cls, slots: Slots, buckets: Tensor) -> Entries:
        groups, blocks, each = slots.slots.shape
        device = buckets.device
        query = torch.arange(blocks, device=device)[:, None]
        some = torch.arange(each, device=device) < slots.counts[..., None]
        near = buckets[query - slots.slots + blocks - 1] < 0
        line = torch.arange(groups, device=device)[:, None, None] * blocks + slots.slots
        key = torch.where(some, 2 * line + near, 2 * groups * blocks).flatten()
        key, order = (key.int() if 2 * groups * blocks < 2**31 else key).sort(stable=True)
        starts = torch.searchsorted(key, torch.arange(2 * groups * blocks + 1, device=device, dtype=key.dtype))
        return cls((order // each % blocks).int(), starts.int())


@dataclass(frozen=True)
class Picks:
    """Pairs of a token and a block that it picked.

    Attributes:
        picks: (G, T, k) int16 or int32, the blocks; -1 for none.
        order: (G, T k) int32, pairs (``token k + pick``) by block.
        starts: (G, N + 1) int32, where in ``order`` the pairs of a block begin, and the end.
    """

    picks: Tensor
    order: Tensor
    starts: Tensor

    @classmethod
    def of(cls, chosen_GTk: Tensor, blocks: int) -> Picks:
        # a radix sort of 16 bits takes half the passes of one of 32
        picks = chosen_GTk.to(torch.int16 if blocks < 2**15 else torch.int32).contiguous()
        key, order = picks.flatten(1).sort(dim=-1, stable=True)
        block = torch.arange(blocks + 1, device=picks.device, dtype=key.dtype).expand(len(key), -1).contiguous()
        return cls(picks, order.int(), torch.searchsorted(key, block).int())

    def counts(self) -> Tensor:
        """(G, N) pairs of each block."""
        return self.starts[:, 1:] - self.starts[:, :-1]


@dataclass(frozen=True)
class Segments:
    """Lists of tiles, each cut into segments of at most ``longest``, for one program a segment.

    Attributes:
        owner: int32, the list of each program; their number where there are no more segments.
        number: (lists) int32, segments of each.
        first: (lists) int32, the program of the first.
        spill: (lists) int32, of those with several segments the row of a buffer for the first one's sums.
        longest: tiles.
        rows: rows that the buffer needs at the most.
    """

    owner: Tensor
    number: Tensor
    first: Tensor
    spill: Tensor
    longest: int
    rows: int

    @classmethod
    def of(cls, tiles: Tensor, longest: int, total: int) -> Segments:
        """From the lists' lengths, which together are at most ``total``."""
        tiles = tiles.flatten()
        number = (tiles + longest - 1) // longest
        ends = number.cumsum(0)
        program = torch.arange(len(tiles) + total // longest, device=tiles.device)
        several = torch.where(number > 1, number, 0)
        return cls(
            owner=torch.searchsorted(ends, program, right=True).int(),
            number=number.int(),
            first=(ends - number).int(),
            spill=(several.cumsum(0) - several).int(),
            longest=longest,
            rows=2 * total // longest,  # a list with n > 1 segments is longer than n / 2 of them
        )

    @staticmethod
    def length(lists: int, total: int, least: int) -> int:
        """The shortest segments, of ``least`` tiles or more, whose buffer is small enough (:data:`LISTS_A_ROW`)."""
        return max(least, -(-2 * LISTS_A_ROW * total // lists))

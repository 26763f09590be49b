"""From what is scheduled to the tensors of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from deepseek.inference.generation.paged.blocks import BLOCK, blocks_for
from deepseek.inference.generation.paged.model import Piece
from deepseek.inference.generation.torch.attention import Batch, Group

if TYPE_CHECKING:
    import torch


def batch_of(pieces: Sequence[Piece], device: torch.device) -> Batch:
    """One flattened batch; pieces of one token come first, and pieces of equal length, if short, make one group.

    The pieces must be in :func:`ordered` order, and rows come in that order.
    """
    import numpy as np
    import torch

    counts = np.array([len(piece.ids) for piece in pieces])
    starts = np.array([piece.start for piece in pieces])
    ends = np.cumsum(counts)
    owners = np.repeat(np.arange(len(pieces)), counts)
    places = np.arange(int(ends[-1])) - np.repeat(ends - counts, counts)  # of each token in its piece
    positions = places + starts[owners]
    lengths = starts + counts
    width = blocks_for(int(lengths.max()))
    tables = np.zeros((len(pieces), width), dtype=np.int32)
    for at, piece in enumerate(pieces):
        used = blocks_for(int(lengths[at]))
        tables[at, :used] = piece.blocks[:used]
    slots = tables[owners, positions // BLOCK].astype(np.int64) * BLOCK + positions % BLOCK
    rows = np.flatnonzero(places >= (counts - np.array([piece.rows for piece in pieces]))[owners])
    ids = np.fromiter((token for piece in pieces for token in piece.ids), dtype=np.int64, count=int(ends[-1]))

    def on_device(array: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

    groups = []
    at = 0
    while at < len(pieces):
        stop = at + 1
        while stop < len(pieces) and _together(pieces[at], pieces[stop]):
            stop += 1
        longest = int(lengths[at:stop].max())
        own = tables[at:stop, : blocks_for(longest)]
        groups.append(
            Group(
                start=int(ends[at] - counts[at]),
                stop=int(ends[stop - 1]),
                new=int(counts[at]),
                longest=longest,
                tables_NM=on_device(own),
                lengths_N=on_device(lengths[at:stop].astype(np.int32)),
                even=bool((lengths[at:stop] == longest).all()),
                run=int(own[0, 0]) if stop - at == 1 and bool((np.diff(own[0]) == 1).all()) else -1,
            )
        )
        at = stop
    return Batch(
        ids_1T=on_device(ids).unsqueeze(0),
        positions_1T=on_device(positions).unsqueeze(0),
        slots_T=on_device(slots),
        groups=groups,
        rows_R=on_device(rows),
        adapters=_by_adapter(np.array([piece.adapter for piece in pieces])[owners], on_device),
    )


_SHORT = 32
"""Longest pieces that are grouped: longer ones are prompts, whose lengths differ too much to be padded to one."""


def ordered(pieces: Sequence[Piece]) -> list[int]:
    """Indices of pieces in the order that makes groups: short ones by how many tokens they have."""
    return sorted(range(len(pieces)), key=lambda at: min(len(pieces[at].ids), _SHORT + 1))


def _together(one: Piece, other: Piece) -> bool:
    return len(one.ids) == len(other.ids) <= _SHORT


def _by_adapter(adapters: Any, on_device: Callable[[Any], torch.Tensor]) -> dict[int, torch.Tensor | None]:
    import numpy as np

    found = [int(at) for at in np.unique(adapters) if at >= 0]
    if not found:
        return {}
    if len(found) == 1 and bool((adapters == found[0]).all()):
        return {found[0]: None}
    return {at: on_device(np.flatnonzero(adapters == at)) for at in found}

"""Pairs of a query and the node or key block that it chose, in tiles: so many queries that chose the same.

A tile is one matrix product, whatever queries are in it (the order of MoBA's kernels, arXiv:2502.13189). P pairs take
O(P log P) for the sort and O(P) memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairTiles:
    """t tiles of W places.

    Attributes:
        pair_tW: number of the pair at each place, query * choices + choice; -1 at places that are left over.
        key_t: what the queries of a tile chose.
        place_P: where each pair is among all places; 0 for those that are none.
        choices: choices of each query.
    """

    pair_tW: Tensor
    key_t: Tensor
    place_P: Tensor
    choices: int

    def query(self, pair: Tensor) -> Tensor:
        """The pairs' queries; 0 for places that are left over."""
        return (pair // self.choices).clamp_(min=0)


def tiled(chosen_Tk: Tensor, keys: int, width: int) -> PairTiles:
    """Sort all pairs of one head by what was chosen.

    Args:
        chosen_Tk: what each query chose, below ``keys``; -1 for nothing.
        width: W, queries of a tile.
    """
    chosen = chosen_Tk.flatten()
    pair = (chosen >= 0).nonzero().squeeze(-1)
    key, order = chosen[pair].sort(stable=True)
    count = torch.bincount(key, minlength=keys)
    tiles = (count + width - 1) // width
    number = int(tiles.sum())
    # where a key's first pair goes, less where it is now
    shift = (tiles.cumsum(0) - tiles) * width - (count.cumsum(0) - count)
    place = shift[key] + torch.arange(len(key), device=key.device)
    padded = torch.full((number * width,), -1, dtype=pair.dtype, device=pair.device)
    sorted_pair = pair[order]
    padded[place] = sorted_pair
    place_P = torch.zeros(chosen.numel(), dtype=pair.dtype, device=pair.device)
    place_P[sorted_pair] = place
    key_t = torch.repeat_interleave(torch.arange(keys, device=key.device), tiles)
    return PairTiles(padded.view(number, width), key_t, place_P, chosen_Tk.shape[1])

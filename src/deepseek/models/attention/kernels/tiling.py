"""What the kernels are compiled for: ranges of features, tiles, warps and stages; nothing of Triton.

16 bits on NVIDIA: tiles of 64 keys and up to 128 queries, which Hopper's matrix units (wgmma) take whole. On AMD: four
warps, which may have 512 registers a thread, and at most the 64 KB of shared memory of an MI200. 32 bits are computed
exactly, which NVIDIA's matrix units cannot: tiles are small, large heads are left out, and this is for comparing, not
for speed. Sizes were chosen by what the compiler says of registers, spills and shared memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

LEAST = 16
"""The least rows or columns of a matrix product."""
MOST_WIDTH = 128
MOST_FEATURES = 128
MOST_DISTANCES = 128
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is fixed in a call.

    Attributes:
        width: tokens of a block.
        features, content, values: E, C and D.
        distances: R.
        causal: a token sees none after it.
        bound: the last block is not full.
        masked: there is a mask.
        picks: tokens choose by themselves.
        exact: float32.
        rocm: for an AMD GPU.
    """

    width: int
    features: int
    content: int
    values: int
    distances: int
    causal: bool
    bound: bool
    masked: bool
    picks: bool
    exact: bool
    rocm: bool

    @property
    def large(self) -> bool:
        """Whether sums of gradients take the registers of eight warps."""
        return is_large(self.features, self.values)

    def tiles(self, queries: int, keys: int | None = None) -> dict[str, int]:
        """Rows of a program and of a step, at most those of a block."""
        sizes = {"QUERIES": min(self.width, queries)}
        return sizes if keys is None else {**sizes, "KEYS": min(self.width, keys)}

    def shared(self) -> dict[str, Any]:
        """Constants of all kernels of attention."""
        first, rest = ranges(self.features)
        return {
            "WIDTH": self.width, "FEATURES": self.features, "FIRST": first, "REST": rest, "CONTENT": self.content,
            "VALUES": self.values, "PADDED": power_of_two(self.values), "BOUND": self.bound, "MASKED": self.masked,
        }  # fmt: skip

    def flags(self) -> dict[str, bool]:
        return {"CAUSAL": self.causal, "PICKS": self.picks}


def power_of_two(number: int) -> int:
    """The least power of two that holds so many, and is enough for a matrix product."""
    return max(LEAST, 1 << (number - 1).bit_length())


def ranges(features: int) -> tuple[int, int]:
    """Two powers of two that hold so many features with the fewest columns; the second may be 0."""
    whole = power_of_two(features)
    first = whole // 2
    if first >= LEAST and first + power_of_two(features - first) < whole:
        return first, power_of_two(features - first)
    return whole, 0


def is_large(features: int, values: int) -> bool:
    """Whether E and D are more than 80 and 64, with what they are filled up with."""
    return sum(ranges(features)) > 80 or power_of_two(values) > 64


def fits_exactly(width: int, features: int, values: int, *, rocm: bool) -> bool:
    """Whether registers suffice for float32: AMD's matrix units take it, NVIDIA's do not."""
    wide, large = width > 64, is_large(features, values)
    return not (wide and large) if rocm else not (wide or large)


def _options(warps: int, stages: int) -> dict[str, int]:
    return {"num_warps": warps, "num_stages": stages}


def forward(shape: Shape) -> tuple[dict[str, Any], dict[str, int]]:
    """Constants and options of ``forward_kernel``."""
    if shape.exact:
        queries, keys, options = 32, 32, _options(4 if shape.rocm else 8, 1)
    elif shape.rocm:
        queries, keys, options = 32 if shape.large or shape.width > 64 else 64, 64, _options(4, 2)
    else:
        # with a third stage the numbers of the slots are read ahead too
        queries, keys, options = 128, 64, _options(8 if shape.width > 64 else 4, 2 if shape.picks else 3)
    return {**shape.shared(), **shape.flags(), **shape.tiles(queries, keys)}, options


def picks(shape: Shape) -> tuple[dict[str, Any], dict[str, int]]:
    """Of ``picks_kernel``."""
    if shape.exact:
        queries, options = 16, _options(4, 1)
    elif shape.rocm:
        queries, options = 32 if shape.large or shape.width > 64 else 64, _options(4, 2)
    else:
        queries, options = 64, _options(8 if shape.width > 64 else 4, 2)
    return {**shape.shared(), **shape.tiles(queries), "LONGEST": 8}, options


def query_gradients(shape: Shape) -> tuple[dict[str, Any], dict[str, int]]:
    """Of ``query_gradients_kernel``."""
    if shape.exact:
        queries, keys, options = 16 if shape.large else 32, 16, _options(4 if shape.rocm else 8, 1)
    elif shape.rocm:
        queries, keys, options = 32 if shape.large or shape.width > 64 else 64, 32, _options(4, 2)
    elif shape.large:
        queries, keys, options = 64 if shape.picks else 128, 32, _options(8, 2)
    else:
        queries, keys, options = 128, 64, _options(8 if shape.width > 64 else 4, 2 if shape.picks else 3)
    distances = {"DISTANCES": power_of_two(shape.distances)}
    return {**shape.shared(), **shape.flags(), **shape.tiles(queries, keys), **distances}, options


def key_gradients(shape: Shape) -> tuple[dict[str, Any], dict[str, int]]:
    """Of ``key_gradients_kernel``."""
    if shape.exact:
        queries, options = 16, _options(4 if shape.rocm else 8, 1)
    elif shape.rocm:
        queries = 16 if shape.large or shape.width > 64 else 32 if shape.picks else 64
        options = _options(4, 2)
    elif shape.large:
        queries, options = 16 if shape.picks else 32, _options(8, 2)
    else:
        queries, options = 32 if shape.picks else 64, _options(8 if shape.width > 64 else 4, 2)
    return {**shape.shared(), **shape.flags(), **shape.tiles(queries)}, options


def segments(shape: Shape) -> tuple[dict[str, Any], dict[str, int]]:
    """Of ``segments_kernel``."""
    columns = power_of_two(max(shape.features, shape.values))
    kept = {name: shape.shared()[name] for name in ("WIDTH", "FEATURES", "CONTENT", "VALUES")}
    return {**kept, "COLUMNS": columns, "ROWS": LEAST}, _options(4, 1)


def delta(shape: Shape) -> tuple[dict[str, Any], dict[str, int]]:
    """Of ``delta_kernel``."""
    return {"VALUES": shape.values, "PADDED": power_of_two(shape.values), "QUERIES": 64}, _options(4, 1)

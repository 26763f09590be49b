"""Pieces that the Triton kernels share; importing this imports Triton.

A tile is some rows of a matrix. Tensors are stepped through by strides, except in the last dimension, and a tile's
beginning is counted in 64 bits. Features are two ranges, ``FIRST`` and ``REST`` of them, each a power of two as Triton
has it: 80 features are 64 and 16, not 128. ``REST`` of 0: there is one range, and what stands for the second is unused.

Softmax is to base 2: ``slope`` is ``scale log2(e)``, and multiplies within the exponential's one multiply-add.
"""

# ruff: noqa: ANN001, ANN201, SIM108 - Triton's kernels are compiled: parameters have no types, constants are large
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

COUNTS = [
    "first_group", "lines", "longest", "heads", "tokens", "blocks", "slots_each", "distances_each", "picks_each",
]  # fmt: skip
"""Numbers that a kernel is not compiled anew for: they change with the texts' length."""
LOW = tl.constexpr(-1e30)
"""Logit of a key that is padding: finite, so that a query with no other key gets the mean of their values."""
LOWEST = tl.constexpr(-1e31)
"""Greatest logit before the first is seen: below all, and finite, since the difference of infinities is no number."""
SLOTS = tl.constexpr(16)
"""Slots whose terms are computed at a time, by one product: the least that matrix units take."""


@triton.jit
def rows_of(
    base, row, step, there, FROM: tl.constexpr, SIZE: tl.constexpr, LIMIT: tl.constexpr, BOUND: tl.constexpr
):  # fmt: skip
    """Columns ``FROM`` to ``FROM + SIZE``; zeros from column ``LIMIT`` on and, if ``BOUND``, in rows not ``there``."""
    column = FROM + tl.arange(0, SIZE)
    at = base + row[:, None] * step + column[None, :]
    if FROM + SIZE <= LIMIT:
        if BOUND:
            tile = tl.load(at, mask=there[:, None], other=0.0)
        else:
            tile = tl.load(at)
    else:
        if BOUND:
            tile = tl.load(at, mask=there[:, None] & (column < LIMIT)[None, :], other=0.0)
        else:
            tile = tl.load(at, mask=(column < LIMIT)[None, :], other=0.0)
    return tile


@triton.jit
def keep_rows(
    base, row, step, there, tile, FROM: tl.constexpr, SIZE: tl.constexpr, LIMIT: tl.constexpr
):  # fmt: skip
    """The reverse of :func:`rows_of`, rounding to what ``base`` has."""
    column = FROM + tl.arange(0, SIZE)
    at = base + row[:, None] * step + column[None, :]
    tl.store(at, tile.to(base.dtype.element_ty), mask=there[:, None] & (column < LIMIT)[None, :])


@triton.jit
def features_of(
    base, row, step, there,
    FIRST: tl.constexpr, REST: tl.constexpr, FEATURES: tl.constexpr, BOUND: tl.constexpr,
):  # fmt: skip
    """Both ranges of features."""
    first = rows_of(base, row, step, there, 0, FIRST, FEATURES, BOUND)
    rest = first
    if REST > 0:
        rest = rows_of(base, row, step, there, FIRST, REST, FEATURES, BOUND)
    return first, rest


@triton.jit
def terms_of(pooled, distances, slot, bucket, FROM: tl.constexpr, SIZE: tl.constexpr, CONTENT: tl.constexpr):
    """``s_J + r[bucket]`` of some blocks in float32; zeros where ``bucket`` is -1, which near blocks have."""
    column = FROM + tl.arange(0, SIZE)
    far = (bucket >= 0)[:, None] & (column < CONTENT)[None, :]
    s = tl.load(pooled + slot[:, None] * CONTENT + column[None, :], mask=far, other=0.0).to(tl.float32)
    r = tl.load(distances + bucket[:, None] * CONTENT + column[None, :], mask=far, other=0.0).to(tl.float32)
    return s + r


@triton.jit
def products(
    left, left_rest, right, right_rest, REST: tl.constexpr
):  # fmt: skip
    """Dot products over all features of the rows of two tiles."""
    found = tl.dot(left, tl.trans(right), input_precision="ieee")
    if REST > 0:
        found = tl.dot(left_rest, tl.trans(right_rest), found, input_precision="ieee")
    return found


@triton.jit
def hidden_keys(mask, key, tokens):
    """Which keys are padding, by a mask that is 0 there."""
    return tl.load(mask + key, mask=key < tokens, other=1) == 0

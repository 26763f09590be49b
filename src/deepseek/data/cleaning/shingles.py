"""Character shingles as numbers: hashed, sorted, compared and sketched for many texts at once.

A shingle's hash is a polynomial in its code points modulo 2**64, mixed (the finaliser of SplitMix64, a bijection), so
that all shingles of a batch come out of a handful of passes over its code points; no Python object is made for a text,
let alone for a shingle. Two different shingles share a hash with a probability of about 5e-20, so sets of hashes stand
for sets of shingles.

Shapes: N texts, T shingles of all texts one after the other (text n has those from offsets[n] to offsets[n + 1]).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Hashes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint64]]"
Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
Integers: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

_BASE = np.uint64(0x9E3779B97F4A7C15)
BITMAP_WORDS = 4


def shingle_hashes(keys: pa.Array, length: int) -> tuple[Hashes, Integers]:
    """The hashes of each text's shingles in text order (T, with repeats), and offsets (N + 1).

    A text of up to ``length`` characters is its own only shingle.

    Args:
        keys: a ``large_string`` array without nulls.
    """
    codes, starts = _code_points(keys)
    sizes = np.diff(starts)
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(np.maximum(sizes - length + 1, 1), out=offsets[1:])
    hashes = np.empty(offsets[-1], np.uint64)
    short = np.flatnonzero(sizes < length)
    from_windows = np.ones(len(hashes), np.bool_)
    from_windows[offsets[short]] = False
    hashes[from_windows] = _windows(codes, starts, length)
    hashes[offsets[short]] = _short(codes, starts[short], sizes[short], length)
    return _mixed(hashes), offsets


def _code_points(keys: pa.Array) -> tuple[np.ndarray[Any, Any], Integers]:
    """Code points of all texts, and where each text starts among them (N + 1)."""
    offsets = np.frombuffer(keys.buffers()[1], np.int64)[keys.offset : keys.offset + len(keys) + 1]
    data = keys.buffers()[2]
    raw = memoryview(b"" if data is None else data)[offsets[0] : offsets[-1]]
    codes = np.frombuffer(raw, np.uint8)
    if len(codes) and codes.max() >= 0x80:
        codes = np.frombuffer(str(raw, "utf-8").encode("utf-32-le"), np.uint32)
        starts = np.zeros(len(keys) + 1, np.int64)
        np.cumsum(pc.utf8_length(keys).to_numpy(), out=starts[1:])
        return codes, starts
    return codes, offsets - offsets[0]


def _windows(codes: np.ndarray[Any, Any], starts: Integers, length: int) -> Hashes:
    """Polynomials of all windows that lie inside one text."""
    count = len(codes) - length + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    hashes = np.zeros(count, np.uint64)
    for place in range(length):
        hashes *= _BASE
        hashes += codes[place : place + count]
        hashes += np.uint64(1)  # a code point of zero must count, and the padding of short texts must not
    inside = np.ones(len(codes), np.bool_)
    for back in range(1, length):
        last = starts[1:] - back
        inside[last[last >= starts[:-1]]] = False
    return hashes[inside[:count]]


def _short(codes: np.ndarray[Any, Any], starts: Integers, sizes: Integers, length: int) -> Hashes:
    """Polynomials of texts shorter than a window, padded with zeros."""
    hashes = np.zeros(len(starts), np.uint64)
    for place in range(length):
        hashes *= _BASE
        there = sizes > place
        hashes[there] += codes[starts[there] + place].astype(np.uint64) + np.uint64(1)
    return hashes


def _mixed(hashes: Hashes) -> Hashes:
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def mixed(hashes: Hashes) -> Hashes:
    """A bijection of 64-bit numbers whose results look random."""
    return _mixed(hashes)


def shingle_sets(keys: pa.Array, length: int) -> tuple[Hashes, Integers]:
    """Each text's shingles as a set: the upper 48 bits of the hashes, sorted and without repeats, and offsets (N + 1).

    The 16 bits that are given up hold the text's number while all sets are sorted at once, which is many times faster
    than sorting each. Two sets of 100 shingles then seem to have one more in common with a probability of 4e-11.
    """
    assert len(keys) <= 1 << 16, "more texts than fit into the lower 16 bits"
    hashes, offsets = shingle_hashes(keys, length)
    upper = ~np.uint64(0xFFFF)
    owned = hashes >> np.uint64(16)
    owned |= np.repeat(np.arange(len(keys), dtype=np.uint64) << np.uint64(48), np.diff(offsets))
    owned.sort()
    first = np.ones(len(owned), np.bool_)
    np.not_equal(owned[1:], owned[:-1], out=first[1:])
    owned = owned[first]
    sizes = np.bincount((owned >> np.uint64(48)).astype(np.int64), minlength=len(keys))
    return (owned << np.uint64(16)) & upper, np.concatenate([[0], np.cumsum(sizes)])


def bitmaps(hashes: Hashes, offsets: Integers) -> Hashes:
    """A 256-bit parity bitmap of each set (N, BITMAP_WORDS): every hash flips one bit.

    Two sets' bitmaps differ in at most as many bits as the sets have elements that are not common, which rules out most
    pairs without looking at the sets (Sandes, Teodoro & Melo, Bitmap filter: speeding up exact set similarity joins
    with bitwise operations, Information Systems 88, 2020).
    """
    words = np.empty((len(offsets) - 1, BITMAP_WORDS), np.uint64)
    bits = np.uint64(1) << (hashes >> np.uint64(58))
    word = (hashes >> np.uint64(16)) % np.uint64(BITMAP_WORDS)
    for number in range(BITMAP_WORDS):
        flips = np.where(word == number, bits, np.uint64(0))
        words[:, number] = np.bitwise_xor.reduceat(flips, offsets[:-1])
    return words


def common(hashes: Hashes, starts: Integers, sizes: Integers, left: Integers, right: Integers) -> Integers:
    """How many elements the sets ``left[p]`` and ``right[p]`` have in common, for each pair p.

    ``starts`` and ``sizes`` say where in ``hashes`` each set lies, sorted. Every element of the left set is looked up
    in the right one by bisection, for all pairs together.
    """
    counts = sizes[left]
    pair = np.repeat(np.arange(len(left)), counts)
    place = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    wanted = hashes[starts[left][pair] + place]
    low = starts[right][pair]
    end = low + sizes[right][pair]
    high = end.copy()
    for _ in range(int(sizes[right].max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        below = (middle < high) & (hashes[np.minimum(middle, end - 1)] < wanted)
        low = np.where(below, middle + 1, low)
        high = np.where(below, high, middle)
    found = (low < end) & (hashes[np.minimum(low, end - 1)] == wanted)
    return np.bincount(pair[found], minlength=len(left))


def not_ruled_out(left: Hashes, right: Hashes, sizes: Integers, threshold: float) -> Bools:
    """Whether sets with these bitmaps, of so many elements together, can have the threshold's similarity."""
    differing = np.bitwise_count(left ^ right).sum(axis=-1, dtype=np.int64)
    possible: Bools = differing <= (1 - threshold) / (1 + threshold) * sizes + 1e-6
    return possible


def similar_pairs(
    hashes: Hashes, starts: Integers, sizes: Integers, left: Integers, right: Integers, threshold: float
) -> Bools:
    """Whether each pair of sets has at least the threshold's Jaccard similarity."""
    shared = common(hashes, starts, sizes, left, right)
    good: Bools = shared / (sizes[left] + sizes[right] - shared) >= threshold
    return good

"""Pseudo-random permutations of ``0 .. size-1`` that take no memory, whatever the size.

A permutation is computed, not stored: a Feistel network over the smallest even number of bits that holds ``size - 1``
is a bijection whatever its round function is (Luby and Rackoff, 1988); a result outside the range is put through again
until it is inside ("cycle walking", Black and Rogaway, 2002), on average fewer than four times. Any place of the
permutation can be computed on its own, which makes resuming exact and free.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.int64]]
_ROUNDS = 6
_MASK = 0xFFFFFFFFFFFFFFFF


class Permutation:
    """A permutation of ``0 .. size-1`` chosen by ``key`` (any numbers, such as seed and epoch)."""

    def __init__(self, size: int, *key: int) -> None:
        if size < 0:
            raise ValueError(f"size: expected 0 or more, received {size}")
        self.size = size
        self._half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
        state = 0x9E3779B97F4A7C15
        for number in key:
            state = _mix_int(state ^ _mix_int(number & _MASK))
        self._keys = []
        for _ in range(_ROUNDS):
            state = _mix_int(state + 0x9E3779B97F4A7C15)
            self._keys.append(np.uint64(state))

    def __call__(self, places: Array) -> Array:
        """Where the permutation sends ``places`` (each of ``0 .. size-1``)."""
        return self._walk(places, self._forward)

    def inverse(self, values: Array) -> Array:
        """Which places are sent to ``values``."""
        return self._walk(values, self._backward)

    def _walk(self, places: Array, step: Any) -> Array:
        values = np.asarray(places, dtype=np.int64)
        if values.size and (values.min() < 0 or values.max() >= self.size):
            raise IndexError(f"expected places 0 to {self.size - 1}")
        result = step(values.astype(np.uint64))
        outside = np.flatnonzero(result >= self.size)
        while outside.size:
            result[outside] = step(result[outside])
            outside = outside[result[outside] >= self.size]
        walked: Array = result.astype(np.int64)
        return walked

    def _forward(self, values: Any) -> Any:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = values >> half, values & mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return (left << half) | right

    def _backward(self, values: Any) -> Any:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = values >> half, values & mask
        for key in reversed(self._keys):
            left, right = right ^ (_mix(left ^ key) & mask), left
        return (left << half) | right


def _mix_int(value: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014)."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _mix(values: Any) -> Any:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

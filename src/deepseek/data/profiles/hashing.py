"""Hashes that never change: the same value has the same 64 bits on every machine, in every version, in every process.

Texts and bytes of up to 64 bytes go through a table of random words, NumPy over all of them at once (Zobrist hashing:
one random word for each byte value, multiplied by one for each position); longer ones through BLAKE2b one by one, where
the cost is the bytes and not the call.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Words = npt.NDArray[np.uint64]
SHORT = 64


def mixed(words: Words) -> Words:
    """The finaliser of SplitMix64 (Steele et al. 2014): a bijection that spreads every bit over all of them."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


_BYTE: Words = mixed(np.arange(256, dtype=np.uint64))
_POSITION: Words = mixed(np.arange(1000, 1000 + SHORT, dtype=np.uint64)) | np.uint64(1)


def signs(rows: int, columns: int) -> npt.NDArray[np.float64]:
    """A fixed matrix of -1 and +1, shape (rows, columns): random directions that are the same everywhere."""
    words = mixed(np.arange(rows * columns, dtype=np.uint64) + np.uint64(columns << 32))
    return np.where(words >> np.uint64(63), 1.0, -1.0).reshape(rows, columns)


def hashed(values: pa.Array) -> Words:
    """One 64-bit hash for each text or bytes value; there may be no nulls."""
    wide = values.cast(pa.large_binary())
    lengths = np.asarray(pc.binary_length(wide), dtype=np.int64)
    result = np.empty(len(wide), dtype=np.uint64)
    short = lengths <= SHORT
    if short.all():
        result[:] = _short(wide, lengths)
        return result
    result[short] = _short(wide.filter(pa.array(short)), lengths[short])
    long = wide.filter(pa.array(~short)).to_pylist()
    result[~short] = [int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "big") for value in long]
    return result


def _short(wide: pa.Array, lengths: npt.NDArray[np.int64]) -> Words:
    data, starts = contents(wide)
    result = np.zeros(len(wide), dtype=np.uint64)
    filled = lengths > 0
    if filled.any():
        positions = np.arange(len(data)) - np.repeat(starts, lengths)
        first = starts[filled]  # empty values own no bytes, so the others' first bytes cut the rest exactly
        result[filled] = np.add.reduceat(_BYTE[data] * _POSITION[positions], first)
    return mixed(result + lengths.astype(np.uint64) * _POSITION[0])


def contents(wide: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All bytes of a ``large_binary`` array without nulls, one value after the other, and where each value starts."""
    if not len(wide):
        return np.empty(0, dtype=np.uint8), np.empty(0, dtype=np.int64)
    offsets = np.frombuffer(wide.buffers()[1], dtype=np.int64)[wide.offset : wide.offset + len(wide) + 1]
    buffer = wide.buffers()[2]
    data = np.frombuffer(buffer, dtype=np.uint8) if buffer is not None else np.empty(0, dtype=np.uint8)
    return data[offsets[0] : offsets[-1]], offsets[:-1] - offsets[0]

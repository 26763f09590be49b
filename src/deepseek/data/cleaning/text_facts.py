"""What table steps compare instead of texts, labels and splits: keys and their hashes, noted once a row.

``text_key`` is the grouping key, ``key_high`` and ``key_low`` its 128-bit BLAKE2b hash: among a billion different keys
two are equal with a probability of about 1e-21. Labels and splits become 64-bit hashes of their values; two rows can
only be taken for equal through them when their texts are equal, too. A null counts as a value of its own.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.step import Columns
from deepseek.data.text_key import text_keys

TRAIN = "train"
KEY, HIGH, LOW = "text_key", "key_high", "key_low"
LABEL, SPLIT, HELD_OUT = "label_hash", "split_hash", "held_out"
FACTS = pa.schema(
    [
        (KEY, pa.large_string()),
        (HIGH, pa.uint64()),
        (LOW, pa.uint64()),
        (LABEL, pa.uint64()),
        (SPLIT, pa.uint64()),
        (HELD_OUT, pa.bool_()),
    ]
)


def text_facts(table: pa.Table, columns: Columns) -> dict[str, pa.Array]:
    """The columns of :data:`FACTS` for the rows of ``table``; those of the key only where there is a text column."""
    facts: dict[str, pa.Array] = {}
    if columns.text is not None:
        keys = text_keys(table.column(columns.text).to_pylist())
        hashes = key_hashes(keys)
        facts = {
            KEY: pa.array(keys, pa.large_string()),
            HIGH: pa.array(hashes[:, 0]),
            LOW: pa.array(hashes[:, 1]),
        }
    facts[LABEL] = pa.array(_value_hashes(table, columns.label))
    facts[SPLIT] = pa.array(_value_hashes(table, columns.split))
    splits = [TRAIN] * table.num_rows if columns.split is None else table.column(columns.split).to_pylist()
    facts[HELD_OUT] = pa.array([split != TRAIN for split in splits], pa.bool_())
    return facts


def key_hashes(keys: list[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """128-bit hashes of texts as a matrix ``[keys, 2]``."""
    digest = hashlib.blake2b
    joined = b"".join(digest(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64).reshape(-1, 2)


def _value_hashes(table: pa.Table, column: str | None) -> np.ndarray[Any, np.dtype[np.uint64]]:
    if column is None:
        return np.zeros(table.num_rows, np.uint64)
    known: dict[str, int] = {}
    hashes = np.empty(table.num_rows, np.uint64)
    for row, value in enumerate(table.column(column).to_pylist()):
        # + 0 makes -0.0 and 0.0 one value, as they are for ==
        text = repr(value + 0 if isinstance(value, float) else value)
        if (known_hash := known.get(text)) is None:
            known_hash = known[text] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        hashes[row] = known_hash
    return hashes

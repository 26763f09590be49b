"""Transformations that other processes can import."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.features import on_demand


def ratio(columns):
    """Amount in shares of the limit that the request gives; null where either is."""
    return pc.divide(columns["amount"], columns["limit"])


@on_demand(inputs=["amount"], outputs={"log_amount": "float64", "wave": "float32"})
def curves(columns):
    """Transcendental functions, whose vector and scalar code may differ."""
    amount = columns["amount"].to_numpy(zero_copy_only=False)
    return {"log_amount": np.log1p(np.abs(amount)), "wave": np.sin(amount.astype(np.float32))}


def centred(columns):
    """Looks at other rows, which no transformation may."""
    amount = columns["amount"]
    return pc.subtract(amount, pc.mean(amount))


def described(columns):
    """Text, a list and a vector."""
    names = [f"{amount:.1f}" if amount is not None else None for amount in columns["amount"].to_pylist()]
    vectors = pa.array([None if name is None else [len(name), 1] for name in names], pa.list_(pa.float32(), 2))
    return {"text": names, "letters": [None if name is None else list(name) for name in names], "vector": vectors}

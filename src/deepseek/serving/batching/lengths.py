"""Lengths of rows, so that short texts do not wait for, or get padded to, long ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepseek.serving.models.served_model import Row
from deepseek.tasks.signature import Signature

SHORT = 32
"""Lengths up to this share a bucket: what a batch costs then is mostly not its padding."""


def bucket(length: int) -> int:
    """The power of two that a length is padded to at most: a batch's padding stays below half of it."""
    return (max(length, SHORT) - 1).bit_length()


def length_of(signature: Signature) -> Callable[[Row], int] | None:
    """How long a row is by its signature: characters of its first text, or else the first size that varies.

    ``None`` where all rows are alike. For models that have no ``length(row)`` of their own.
    """
    for field in signature.inputs:
        name = field.name
        if field.dtype in ("string", "bytes") and not field.shape:
            return lambda row: len(row.get(name) or "")
        if -1 in field.shape:
            axis = field.shape.index(-1)
            return lambda row: _size(row.get(name), axis)
    return None


def _size(value: Any, axis: int) -> int:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return int(shape[axis]) if len(shape) > axis else 0
    for _ in range(axis):
        value = value[0] if value else ()
    return len(value) if value is not None else 0

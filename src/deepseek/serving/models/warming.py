"""The row that a model is tried with before it is ready, so that no client pays for lazy initialisation."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from deepseek.errors import DeepSeekError
from deepseek.tasks.signature import Field, Signature

logger = logging.getLogger("deepseek.serving")


@contextlib.contextmanager
def trying(name: str) -> Iterator[None]:
    """Run a model on its warm-up row inside the block.

    A model may refuse our made-up row (``ValueError``): it answered, so it is ready. Any other exception is raised as
    :class:`DeepSeekError`, because every real request would meet it too.
    """
    try:
        yield
    except ValueError as error:
        logger.warning("model %r refused the warm-up row: %s", name, error)
    except Exception as error:
        raise DeepSeekError(f"model {name!r} failed on its warm-up row with {type(error).__name__}: {error}") from error


def sample(signature: Signature) -> tuple[dict[str, Any], dict[str, Any]]:
    """A smallest plausible row for a signature, and the parameters that keep its answer short."""
    short = any(field.name == "max_new_tokens" for field in signature.parameters)
    return sample_row(signature.inputs), {"max_new_tokens": 1} if short else {}


def sample_row(inputs: tuple[Field, ...]) -> dict[str, Any]:
    """A smallest plausible row: short text, zeros, sizes that vary set to 1."""
    import numpy as np

    samples: dict[str, Any] = {"string": "warm up", "bytes": b"warm up", "bool": False, "float32": 0.0, "float64": 0.0}
    row: dict[str, Any] = {}
    for field in inputs:
        if field.optional:
            continue
        value = samples.get(field.dtype, 0)
        if field.shape:
            shape = tuple(1 if size < 0 else size for size in field.shape)
            array = np.full(shape, value, dtype=object if field.dtype in ("string", "bytes") else field.dtype)
            row[field.name] = array.tolist() if array.dtype == object else array
        else:
            row[field.name] = value
    return row

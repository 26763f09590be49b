"""Batches of tensors as a converted model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepseek.errors import ConfigError
from deepseek.inference.recording import Batch


def arrays(batch: Batch, inputs: Sequence[str]) -> dict[str, Any]:
    """A batch as the converted model takes it: NumPy arrays, with every one of its inputs.

    Raises:
        ConfigError: the batch has something that the model does not take.
    """
    import numpy as np

    if unknown := sorted(set(batch) - set(inputs)):
        raise ConfigError(f"the converted model takes {', '.join(inputs)}, received {', '.join(unknown)} too")
    given = {name: np.ascontiguousarray(value.numpy()) for name, value in batch.items()}
    for name in inputs:
        if name not in given:  # what transformers assumes of an input that is left out
            given[name] = np.full(batch[inputs[0]].shape, int(name == "attention_mask"), np.int64)
    return given

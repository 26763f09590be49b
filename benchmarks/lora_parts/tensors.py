"""Bytes of all tensors that training steps work with at once: memory without the process around it.

A dispatch mode sees every storage that an operation reads or makes; a weak reference tells when it dies. It is the
benchmark's own, so that the planner's predictions are not checked with the planner's own means.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorPeak(TorchDispatchMode):  # type: ignore[misc]
    """Use as a context manager; ``peak_mb`` is the most that was alive at once, in MB (10^6 bytes)."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}
        self._alive = 0
        self._peak = 0

    def restart(self) -> None:
        """Count only what is read or made from now on, so that what a run has before its steps is left out."""
        self._sizes.clear()
        self._alive = self._peak = 0

    @property
    def peak_mb(self) -> float:
        """The peak so far."""
        return self._peak / 1e6

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor):
                self._see(value)
        return result

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = int(storage._cdata)
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self._alive += storage.nbytes()
        self._peak = max(self._peak, self._alive)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self._alive -= self._sizes.pop(key, 0)

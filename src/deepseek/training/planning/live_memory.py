"""Count the bytes of all tensors that are alive while code runs, and their peak.

The idea is that of ``torch.distributed._tools.mem_tracker.MemTracker``: a dispatch mode sees every operation, a weak
reference to every new storage tells when it dies. What is left out here is what a plan does not need (per-module
statistics, which cost hooks on every module and make a simulated step several times slower).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

CUDA_BLOCK = 512
"""The CUDA caching allocator gives memory in multiples of this, and counts it so in ``max_memory_allocated``."""


class LiveMemory(TorchDispatchMode):
    """Live and peak bytes of tensor storages, those made inside the ``with`` block and those given to :meth:`hold`.

    Attributes:
        live: bytes alive now.
        peak: the largest ``live`` since the last :meth:`reset_peak`.
        listen: called with (storage id, bytes) when a storage appears and (storage id, 0) when it dies.
    """

    def __init__(self, listen: Callable[[int, int], None] | None = None) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self.listen = listen
        self._sizes: dict[int, int] = {}

    def hold(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count tensors that were made outside."""
        for tensor in tensors:
            self._add(tensor)

    def reset_peak(self) -> None:
        """Start a new peak at what is alive now."""
        self.peak = self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, torch.Tensor):
                self._add(value)
        return out

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = int(storage._cdata)
        if key in self._sizes:
            return
        size = storage.nbytes()
        if storage.device.type == "cuda":
            size = -(-size // CUDA_BLOCK) * CUDA_BLOCK
        self._sizes[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        if self.listen is not None:
            self.listen(key, size)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.live -= self._sizes.pop(key)
        if self.listen is not None:
            self.listen(key, 0)

"""Bounds on what oneDNN remembers of the shapes it has multiplied.

On a CPU PyTorch multiplies bfloat16 matrices with oneDNN, which keeps about half a megabyte for each new shape: the
primitive in its own cache, its description in one of ideep's. Both hold up to 1,024 entries, and texts of all lengths
make new shapes in every batch: training MiniLM on sentences grew by 600 MB in 200 steps. On AMD making a primitive anew
takes next to nothing; with AMX it takes a third of a short step, which is why training pads to few lengths
(``deepseek.training.loop.padding``).

Sources: oneDNN, "Primitive Cache" (``ONEDNN_PRIMITIVE_CACHE_CAPACITY``); ideep, ``utils::lru_cache``
(``LRU_CACHE_CAPACITY``). Neither has a setting that PyTorch exposes, and both read the environment when the process
first multiplies, so a process that multiplied before keeps its large caches.
"""

from __future__ import annotations

import os

SHAPES = 32
"""As many as a training step has, so that batches of one shape find all of theirs."""
VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def bound_kernel_caches() -> None:
    """Let oneDNN remember :data:`SHAPES` products in this process and those that it starts.

    A variable that is set already is left alone.
    """
    for name in VARIABLES:
        os.environ.setdefault(name, str(SHAPES))

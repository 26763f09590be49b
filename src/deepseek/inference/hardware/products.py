"""The fastest matrix product of a device, per precision.

A product of n x n matrices takes 2 n^3 operations and moves 3 n^2 numbers, so that a large one is bound by the units
that multiply and not by memory.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deepseek.inference.hardware.devices import Clock, clock_of
from deepseek.inference.hardware.hardware_peaks import ProductPeak
from deepseek.inference.hardware.precisions import float32_as, multiplications
from deepseek.inference.hardware.repeats import LEAST_CALLS, best_seconds
from deepseek.memory import free_memory

if TYPE_CHECKING:
    import torch

CPU_SIZES = (256, 512, 1024, 2048, 4096, 8192)
GPU_SIZES = (1024, 2048, 4096, 8192, 16384)
_BYTES_A_NUMBER = 16
"""Bytes of two operands and a result, per element, at the widest precision and with what making them takes."""


def fastest_product(precision: str, device: torch.device, seconds: float) -> ProductPeak:
    """The fastest product in ``precision``, searched over sizes in about ``seconds``.

    Sizes grow until there is no time or memory for the next; the best of them is then looked at for as long as is left.

    Raises:
        RuntimeError, TypeError, AttributeError: the device or this PyTorch does not multiply in that precision.
    """
    import torch

    ends = time.monotonic() + seconds
    clock = clock_of(device)
    took: dict[tuple[int, str], float] = {}
    sizes = sizes_on(device)
    slowest = 0.0
    with torch.inference_mode(), float32_as("tf32" if precision == "tf32" else "ieee"):
        for number, size in enumerate(sizes):
            left = ends - time.monotonic()
            # eight times the operations of the size before
            if took and 8 * slowest * LEAST_CALLS > left:
                break
            try:
                found = _times(precision, size, device, clock, left / (len(sizes) - number + 1))
            except RuntimeError:
                if not took:
                    raise
                break  # too large for the memory or for the kernels, which takes nothing from the smaller ones
            took |= {(size, operation): spent for operation, spent in found.items()}
            slowest = sum(found.values())
        size, operation = max(took, key=lambda key: key[0] ** 3 / took[key])
        best, left = took[size, operation], ends - time.monotonic()
        if left > best * LEAST_CALLS:
            best = min(best, best_seconds(clock, multiplications(precision, size, device)[operation], left))
    return ProductPeak(tflops=2 * size**3 / best / 1e12, shape=(size, size, size), operation=operation)


def _times(precision: str, size: int, device: torch.device, clock: Clock, seconds: float) -> dict[str, float]:
    """Seconds of one product by the name of its operation; raises what the first one raises if none works."""
    calls = multiplications(precision, size, device)
    found: dict[str, float] = {}
    refused: RuntimeError | None = None
    for operation, call in calls.items():
        try:
            found[operation] = best_seconds(clock, call, seconds / len(calls))
        except RuntimeError as error:
            refused = refused or error
    if not found and refused is not None:
        raise refused
    return found


def sizes_on(device: torch.device) -> list[int]:
    """The sizes that fit into half of the memory that is free; the smallest one always."""
    smallest, *others = CPU_SIZES if device.type == "cpu" else GPU_SIZES
    room = free_memory(str(device)) // 2
    return [smallest, *(size for size in others if _BYTES_A_NUMBER * size**2 <= room)]

"""Measure what a device does at most, in bounded time."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from deepseek import progress
from deepseek.arithmetic import native_precisions
from deepseek.errors import ConfigError
from deepseek.inference.hardware.bandwidth import KINDS, Arrays, Kind
from deepseek.inference.hardware.devices import describe, find_device
from deepseek.inference.hardware.hardware_peaks import Bandwidth, HardwarePeaks, ProductPeak
from deepseek.inference.hardware.precisions import precisions
from deepseek.inference.hardware.products import fastest_product
from deepseek.models.kernel_caches import bound_kernel_caches

if TYPE_CHECKING:
    import torch

SECONDS = 20.0
_PRODUCT_WEIGHT = 2
"""Share of the time that a precision gets, where a kind of bandwidth gets 1: it has several sizes to try."""


def measure(device: str = "cpu", *, seconds: float = SECONDS) -> HardwarePeaks:
    """Measure the fastest matrix products and the bandwidth of a device, now.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``; PyTorch calls ROCm's GPUs cuda too.
        seconds: about how long it may take, without what making the arrays takes; one second gives a first idea. A CPU
            is measured with the threads that PyTorch uses (``torch.set_num_threads``, ``OMP_NUM_THREADS``).

    Raises:
        ConfigError: the device is not here, it has too little free memory, or ``seconds`` is not a positive number.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"expected a positive number of seconds, received {seconds}")
    bound_kernel_caches()  # a process that multiplies before it is set would keep the large ones
    chosen = find_device(device)
    hardware = describe(chosen)
    count = len(precisions(chosen))
    turns = _Turns(seconds, _PRODUCT_WEIGHT * count + len(KINDS))
    with progress.bar(f"measure {hardware.name}", total=count + len(KINDS), unit="measurements") as bar:
        products, missing = _products(chosen, turns, bar)
        bandwidth = _bandwidth(chosen, hardware.cache_bytes, turns, bar)
    return HardwarePeaks(
        **hardware.model_dump(),
        measured=datetime.now(UTC).replace(microsecond=0),
        seconds=seconds,
        products=products,
        missing=missing,
        bandwidth=bandwidth,
    )


class _Turns:
    """Hands out the time that is left by weight; a turn that took less leaves more to those after it."""

    def __init__(self, seconds: float, weights: int) -> None:
        self._ends, self._weights = time.monotonic() + seconds, weights

    def next(self, weight: int) -> float:
        left = max(0.0, self._ends - time.monotonic())
        share = left * weight / self._weights
        self._weights -= weight
        return share


def _bandwidth(device: torch.device, cache_bytes: int, turns: _Turns, bar: progress.Bar) -> dict[Kind, Bandwidth]:
    arrays = Arrays(device, cache_bytes)
    found = {}
    for kind in KINDS:
        bar.advance(0, note=kind)
        found[kind] = arrays.fastest(kind, turns.next(1))
        bar.advance(note="")
    return found


def _products(device: torch.device, turns: _Turns, bar: progress.Bar) -> tuple[dict[str, ProductPeak], dict[str, str]]:
    products: dict[str, ProductPeak] = {}
    missing: dict[str, str] = {}
    for precision in precisions(device):
        bar.advance(0, note=precision)
        share = turns.next(_PRODUCT_WEIGHT)
        try:
            products[precision] = fastest_product(precision, device, share)
        except (RuntimeError, TypeError, AttributeError) as error:  # PyTorch says no in all three ways
            missing[precision] = str(error).strip().partition("\n")[0] or type(error).__name__
        bar.advance()
    known, float32 = native_precisions(device), products.get("float32")
    for precision, peak in products.items():
        if float32 and precision not in known and peak.tflops < float32.tflops:
            products[precision] = peak.model_copy(update={"emulated": True})
    return products, missing

"""A device that is to be measured: which one it is, and a clock that waits for its work."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deepseek.inference.hardware.hardware_peaks import Hardware
from deepseek.inference.hardware.processor import last_level_cache, processor_features, processor_name
from deepseek.inference.torch_runtime import pick_device

if TYPE_CHECKING:
    import torch

Clock = Callable[[Callable[[], object], int], float]
"""``clock(work, times)``: seconds that ``times`` calls of ``work`` take, one after the other."""


def find_device(device: str) -> torch.device:
    """The device of that name, ``"auto"`` for the best one here; a GPU gets its number.

    Raises:
        ConfigError: the device is not here; the message lists those that are.
    """
    import torch

    found = torch.device(pick_device(device))
    return torch.device("cuda", torch.cuda.current_device()) if found.type == "cuda" and found.index is None else found


def describe(device: torch.device) -> Hardware:
    """What a measurement on ``device`` belongs to, as it is now (the number of threads may change)."""
    import torch

    features: tuple[str, ...] = ()
    threads, cache, runtime = None, 0, ""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, cache = properties.name, int(getattr(properties, "L2_cache_size", 0))
        if torch.version.hip:
            features, runtime = (str(properties.gcnArchName),), f"ROCm {torch.version.hip}"
        else:
            features = (f"compute capability {properties.major}.{properties.minor}",)
            runtime = f"CUDA {torch.version.cuda}"
    elif device.type == "mps":
        name = f"{processor_name()} GPU"
    else:
        name, features = processor_name(), tuple(processor_features())
        threads, cache = torch.get_num_threads(), last_level_cache()
    return Hardware(
        device=str(device),
        name=name,
        features=features,
        threads=threads,
        cache_bytes=cache,
        system=f"{platform.system()} {platform.machine()}",
        torch=str(torch.__version__),
        runtime=runtime,
    )


def clock_of(device: torch.device) -> Clock:
    """A clock for work on ``device``: a GPU's work is over when the GPU says so, not when its call returns."""
    if device.type == "cuda":
        return _cuda_clock(device)
    import torch

    # the CPU is done when the call returns; events of MPS would need a macOS of their own
    wait: Callable[[], Any] = torch.mps.synchronize if device.type == "mps" else lambda: None

    def clock(work: Callable[[], object], times: int) -> float:
        wait()
        started = time.perf_counter()
        for _ in range(times):
            work()
        wait()
        return time.perf_counter() - started

    return clock


def _cuda_clock(device: torch.device) -> Clock:
    import torch

    def clock(work: Callable[[], object], times: int) -> float:
        with torch.cuda.device(device):
            begun, over = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            begun.record()
            for _ in range(times):
                work()
            over.record()
            torch.cuda.synchronize()
            return float(begun.elapsed_time(over)) / 1e3

    return clock

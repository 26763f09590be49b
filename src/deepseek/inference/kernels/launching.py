"""What a launch of a Triton kernel needs to know of a device; nothing of Triton."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext

import torch

PROGRAMS_A_PROCESSOR = 4
"""Programs that a GPU's processor (SM, CU) should have at hand, so that some compute while others wait for memory."""


@functools.lru_cache
def programs_for(device: torch.device) -> int:
    """Programs that fill a GPU."""
    return PROGRAMS_A_PROCESSOR * int(torch.cuda.get_device_properties(device).multi_processor_count)


def on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current GPU, wherever the tensors are. Its interpreter's are on the CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

"""Which precisions a device has units for, as far as it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PROCESSOR_UNITS = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
    "int8": ("avx512_vnni", "avx_vnni", "amx_int8", "dot", "i8mm"),
}
_CUDA_CAPABILITIES = {"tf32": (8, 0), "bfloat16": (8, 0), "float16": (5, 3), "int8": (6, 1), "float8": (8, 9)}
"""https://docs.nvidia.com/cuda/cuda-c-programming-guide/#features-and-technical-specifications"""


def native_precisions(device: torch.device | str) -> set[str]:
    """The precisions that ``device`` is known to have units for; some devices do not say."""
    import torch

    device = torch.device(device)
    found = {"float32"}
    if device.type == "cuda":
        if torch.version.hip:
            return {*found, "bfloat16", "float16", "int8"}
        capability = torch.cuda.get_device_capability(device)
        return found | {precision for precision, least in _CUDA_CAPABILITIES.items() if capability >= least}
    if device.type == "mps":
        return {*found, "float16"}
    capabilities = torch.cpu.get_capabilities()
    return found | {name for name, keys in _PROCESSOR_UNITS.items() if any(capabilities.get(key) for key in keys)}


def trains_in_bfloat16() -> bool:
    """Whether the device that training takes, the GPU if there is one, has units for bfloat16."""
    import torch

    return "bfloat16" in native_precisions("cuda" if torch.cuda.is_available() else "cpu")

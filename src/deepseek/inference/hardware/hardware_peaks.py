"""What a device can do at most, and which device that is."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Hardware(_Part):
    """What a measurement belongs to: it says nothing of any other device, number of threads or PyTorch."""

    device: str = Field(description="As PyTorch names it: cpu, cuda:0, mps.")
    name: str = Field(description="As its maker names it.")
    features: tuple[str, ...] = Field(description="Vector units of a CPU, the architecture of a GPU.")
    threads: int | None = Field(description="Threads that PyTorch uses on a CPU; null on a GPU.")
    cache_bytes: int = Field(ge=0, description="Last-level cache of the device; 0 where the system does not tell.")
    system: str = Field(description="Operating system and architecture.")
    torch: str = Field(description="PyTorch's version.")
    runtime: str = Field(description="CUDA or ROCm and its version; empty elsewhere.")


class ProductPeak(_Part):
    """The fastest matrix product in one precision."""

    tflops: float = Field(gt=0, description="10^12 operations a second; a multiplication and an addition are two.")
    shape: tuple[int, int, int] = Field(description="(rows, inner, columns) of the product that was this fast.")
    operation: str = Field(description="The operation that was this fast.")
    emulated: bool = Field(False, description="No units of the device's own are known for it, and float32 is faster.")


class Bandwidth(_Part):
    """The fastest way through memory of one kind."""

    gb_per_second: float = Field(gt=0, description="10^9 bytes a second, those read and those written together.")
    operation: str = Field(description="The operation that was this fast.")
    array_bytes: int = Field(gt=0, description="Bytes of each array that it went through.")


class HardwarePeaks(Hardware):
    """What a device does at most: products per precision, and bytes through its memory."""

    format: Literal[1] = 1
    measured: datetime
    seconds: float = Field(gt=0, description="Wall time that was given to the measurement; more is more exact.")
    products: dict[str, ProductPeak] = Field(description="Precision to its fastest product.")
    missing: dict[str, str] = Field(description="Precision that this device or PyTorch does not multiply, to why.")
    bandwidth: dict[Literal["read", "copy", "triad"], Bandwidth]

    def belongs_to(self, hardware: Hardware) -> bool:
        """Whether it was measured on ``hardware``: the same device, threads and PyTorch."""
        return all(getattr(self, name) == getattr(hardware, name) for name in Hardware.model_fields)

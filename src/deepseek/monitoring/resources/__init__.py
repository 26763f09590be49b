"""What a server uses: processor, memory, disk, threads, files, GPUs, and the event loop's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.monitoring.resources.gpus import GpuReading
    from deepseek.monitoring.resources.machine import MachineReading
    from deepseek.monitoring.resources.monitor import ResourceConfig, ResourceMonitor

_HOMES = {
    "GpuReading": "gpus",
    "MachineReading": "machine",
    "ResourceConfig": "monitor",
    "ResourceMonitor": "monitor",
}

__all__ = ["GpuReading", "MachineReading", "ResourceConfig", "ResourceMonitor"]

__getattr__ = names_of(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})

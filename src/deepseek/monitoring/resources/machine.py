"""What the process and its machine use, from psutil; inside a container, of the container's limits.

A container's memory is that of its tightest control group (:func:`deepseek.memory.group_limits`), less the file cache
that the kernel gives back on demand, as Kubernetes' working set is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from deepseek.memory import GroupLimit, group_limits


@dataclass(frozen=True, kw_only=True)
class MachineReading:
    """One look at the process and its machine. Memory and disk in bytes."""

    process_cpu: float
    """Processors that the process kept busy since the last look; 1.5 is one and a half."""
    host_cpu: float
    """Share of all processors that was busy since the last look, 0 to 1."""
    resident: int
    """Resident memory of the process."""
    memory_used: int
    memory_limit: int
    disk_used: int
    disk_size: int
    threads: int
    open_files: int | None
    """Open descriptors; ``None`` where the system does not tell."""


class MachineReader:
    """Reads the process that it is made in; ``folder`` lies on the disk that is watched."""

    def __init__(self, folder: str | Path = ".", limits: Callable[[], list[GroupLimit]] = group_limits) -> None:
        self._process = psutil.Process()
        self._folder = str(folder)
        self._limits = limits
        self._process.cpu_percent()  # the first call sets the mark that the next one measures from
        psutil.cpu_percent()

    def read(self) -> MachineReading:
        """One look; costs about a millisecond. Raises ``OSError`` when the folder is gone."""
        with self._process.oneshot():
            cpu = self._process.cpu_percent() / 100
            resident = self._process.memory_info().rss
            threads = self._process.num_threads()
        used, limit = self._memory()
        disk = psutil.disk_usage(self._folder)
        return MachineReading(
            process_cpu=cpu,
            host_cpu=psutil.cpu_percent() / 100,
            resident=resident,
            memory_used=used,
            memory_limit=limit,
            disk_used=disk.used,
            disk_size=disk.total,
            threads=threads,
            open_files=self._open_files(),
        )

    def _open_files(self) -> int | None:
        try:
            return int(self._process.num_fds())
        except (AttributeError, psutil.AccessDenied):  # Windows; a hardened container
            return None

    def _memory(self) -> tuple[int, int]:
        host = psutil.virtual_memory()
        tightest = min(self._limits(), key=lambda group: group.limit - group.used, default=None)
        if tightest is not None and tightest.limit < host.total:
            return tightest.used, tightest.limit
        return host.total - host.available, host.total

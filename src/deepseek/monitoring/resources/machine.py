"""What the process and its machine use, from psutil; inside a container, of the container's limits.

A container sees the host's memory in ``/proc``. What ends it is its own limit, so that is read from the control group
(version 2: ``memory.max`` and ``memory.current``; version 1: ``memory.limit_in_bytes`` and ``memory.usage_in_bytes``),
less the file cache that the kernel gives back on demand, as Kubernetes' working set does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

_UNLIMITED = 1 << 60


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

    def __init__(self, folder: str | Path = ".", control_group: Path = Path("/sys/fs/cgroup")) -> None:
        self._process = psutil.Process()
        self._folder = str(folder)
        self._group = control_group
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
        names = ("memory.max", "memory.current", "memory.stat", "inactive_file")
        old = (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        )
        for maximum, current, statistics, cache in (names, old):
            limit = _number(self._group / maximum)
            if limit is not None and limit < min(host.total, _UNLIMITED):
                used = (_number(self._group / current) or 0) - _field(self._group / statistics, cache)
                return max(used, 0), limit
        return host.total - host.available, host.total


def _number(path: Path) -> int | None:
    """A file with one number; ``None`` when it is not there or says ``max``."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _field(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(value) for key, _, value in (line.partition(" ") for line in lines) if key == name), 0)

"""How much memory this process holds, and how much it may hold."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_UNLIMITED = 1 << 60


class GroupLimit(NamedTuple):
    """What a control group may hold, and holds, in bytes; the file cache that the kernel gives back is not counted."""

    limit: int
    used: int


_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Files of a group, and the line of ``memory.stat`` with its file cache, in versions 2 and 1."""


def process_memory() -> int:
    """Bytes that this process holds now (0 where the system does not tell)."""
    return _field(Path("/proc/self/status"), "VmRSS")


def available_memory(device: str = "cpu") -> int:
    """Bytes that this process may hold in all: what is free now and what it has, within its container's limit.

    On a GPU ("cuda", "cuda:1", "mps"): what is free there and what this process has there.
    """
    kind = device.partition(":")[0]
    if kind == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    if kind == "mps":
        import torch

        return int(torch.mps.recommended_max_memory())
    mine = process_memory()
    free = _field(Path("/proc/meminfo"), "MemAvailable") or _UNLIMITED
    limits = [free + mine]
    for limit, used in group_limits():
        limits.append(limit - used + mine)
    return max(0, min(limits))


def free_memory(device: str = "cpu") -> int:
    """Bytes that this process may take on top of what it holds now, on ``device`` as in :func:`available_memory`."""
    kind = device.partition(":")[0]
    if kind == "cuda":
        import torch

        held = int(torch.cuda.memory_allocated(device))
    elif kind == "mps":
        import torch

        held = int(torch.mps.current_allocated_memory())
    else:
        held = process_memory()
    return max(0, available_memory(device) - held)


def group_limits(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> list[GroupLimit]:
    """Limits of the container's control group and of those around it; none where there are none.

    A container sees the host's memory in ``/proc``, but what ends it is its own limit. It sees its own group as the
    root. Both versions of control groups are read (cgroups(7)).
    """
    found: list[GroupLimit] = []
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds not in {"", "memory"}:
            continue
        top = root / kinds
        maximum, current, cache = _FILES[kinds]
        folders = [top / path.lstrip("/"), top]
        while folders[-2] != top and top in folders[-2].parents:
            folders.insert(-1, folders[-2].parent)
        for folder in dict.fromkeys(folders):
            limit, used = _number(folder / maximum), _number(folder / current)
            if limit is not None and used is not None and limit < _UNLIMITED:
                # The file cache is given up before anyone is killed.
                found.append(GroupLimit(limit, max(0, used - _statistic(folder / "memory.stat", cache))))
    return found


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)


def _field(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), 0)

"""How much memory this process holds, and how much it may hold."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60


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
    for limit, used in _cgroup_limits():
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


def _cgroup_limits() -> list[tuple[int, int]]:
    """(limit, used) of the container and of the groups around it; a container sees its own group as the root."""
    found: list[tuple[int, int]] = []
    lines = _CGROUP.read_text().splitlines() if _CGROUP.is_file() else []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds not in {"", "memory"}:
            continue
        root = Path("/sys/fs/cgroup") / kinds
        names = ("memory.max", "memory.current") if not kinds else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        folders = [root / path.lstrip("/"), root]
        while folders[-2] != root and root in folders[-2].parents:
            folders.insert(-1, folders[-2].parent)
        for folder in dict.fromkeys(folders):
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            cache = _statistic(
                folder / "memory.stat", "inactive_file"
            )  # page cache is given up before anyone is killed
            if limit is not None and used is not None and limit < _UNLIMITED:
                found.append((limit, max(0, used - cache)))
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

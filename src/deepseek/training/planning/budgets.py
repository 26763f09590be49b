"""What may be spent: memory and time as people write them, and what the machine has."""

from __future__ import annotations

import re
from pathlib import Path

from deepseek.errors import ConfigError

_MEMORY = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
           "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
           "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}  # fmt: skip
_TIME = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_CGROUP = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60


def parse_memory(text: str | int | float) -> int:
    """Bytes of ``"2GB"`` (10^9), ``"1.5 GiB"`` (2^30), ``"800M"`` or a plain number.

    Raises:
        ConfigError: it is not a positive amount of memory.
    """
    match = _NUMBER.fullmatch(str(text))
    unit = match[2].upper() if match else "?"
    if match is None or unit not in _MEMORY or float(match[1]) <= 0:
        raise ConfigError(f"expected an amount of memory such as '2GB' or '800MiB', received {text!r}")
    return int(float(match[1]) * _MEMORY[unit])


def parse_time(text: str | int | float) -> float:
    """Seconds of ``"90s"``, ``"10m"``, ``"1h30m"``, ``"2d"`` or a plain number.

    Raises:
        ConfigError: it is not a positive time.
    """
    value, rest, total = str(text).strip(), str(text).strip(), 0.0
    while rest:
        match = _NUMBER.match(rest)
        if match is None or match[2].lower() not in _TIME or (not match[2] and match[0].strip() != value):
            raise ConfigError(f"expected a time such as '90s', '10m' or '1h30m', received {text!r}")
        total += float(match[1]) * _TIME[match[2].lower()]
        rest = rest[match.end() :]
    if total <= 0:
        raise ConfigError(f"expected a time such as '90s', '10m' or '1h30m', received {text!r}")
    return total


def write_memory(count: float) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def write_time(seconds: float) -> str:
    """Seconds for a person."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def process_memory() -> int:
    """Bytes that this process holds now (0 where the system does not tell)."""
    return _field(Path("/proc/self/status"), "VmRSS")


def available_memory(device: str = "cpu") -> int:
    """Bytes that this process may hold in all: what is free now and what it has, within its container's limit.

    On a GPU: what is free there and what this process has there.
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())
    mine = process_memory()
    free = _field(Path("/proc/meminfo"), "MemAvailable") or _UNLIMITED
    limits = [free + mine]
    for limit, used in _cgroup_limits():
        limits.append(limit - used + mine)
    return max(0, min(limits))


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

"""The processor: its name, what it multiplies natively, and how much its last cache holds."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def processor_name() -> str:
    """The maker's name of the processor; that of its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if info.is_file() and (match := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        return match.group(1).strip()
    return _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()


def processor_features() -> list[str]:
    """The vector and matrix units that PyTorch sees and that decide how fast a model runs."""
    try:
        import torch

        known = {
            "avx2": "AVX2",
            "avx512_f": "AVX-512",
            "avx512_bf16": "bfloat16",
            "amx_bf16": "AMX",
            "avx512_vnni": "VNNI",
        }
        capabilities = torch.cpu.get_capabilities()
        return [label for key, label in known.items() if capabilities.get(key)]
    except (ImportError, AttributeError, RuntimeError):
        return []


def last_level_cache() -> int:
    """Bytes of the last caches of the processors that this process may run on, all together (0: not told)."""
    sizes: dict[tuple[int, str], int] = {}
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    for cpu in mine:
        for index in _CPUS.glob(f"cpu{cpu}/cache/index*"):
            try:
                level, kind, size, shared = (
                    (index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
                )
            except OSError:
                continue  # a sandbox shows a part of it
            if kind != "Instruction" and (match := re.fullmatch(r"(\d+)([KMG]?)", size)):
                sizes[int(level), shared] = int(match[1]) * _UNITS.get(match[2], 1)
    last = max((level for level, _ in sizes), default=0)
    told = sum(size for (level, _), size in sizes.items() if level == last)
    return told or int(
        next((size for name in ("hw.l3cachesize", "hw.perflevel0.l2cachesize") if (size := _sysctl(name)).isdigit()), 0)
    )


@cache
def _sysctl(name: str) -> str:
    """What macOS says of its processor; empty elsewhere, and for a name that it does not know."""
    if platform.system() != "Darwin":
        return ""
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True)  # noqa: S603, S607
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

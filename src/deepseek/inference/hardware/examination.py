"""What this machine offers: processor, memory, GPUs, runtimes, extras, cache and network."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from deepseek.artifacts import cache_dir
from deepseek.inference import RUNTIMES
from deepseek.inference.generation import CORES
from deepseek.inference.hardware.processor import processor_features, processor_name

CORE = (
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "safetensors",
    "pylance",
    "pyarrow",
    "duckdb",
    "granian",
    "grpcio",
)
LOW_DISK_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Finding:
    """One line of the examination: ``ok``, ``missing`` (optional) or ``broken`` (needed and not there)."""

    state: Literal["ok", "missing", "broken"]
    subject: str
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding as JSON takes it."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything; never raises."""
    return [*_machine(), *_libraries(), *_runtimes(), *_extras(), *_cache()]


def _machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    features = processor_features()
    found.append(
        Finding("ok", "processor", f"{processor_name()}, {cores} cores{', ' + ', '.join(features) if features else ''}")
    )
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(
            Finding("ok", "memory", f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB")
        )
    return found


def _libraries() -> list[Finding]:
    found, missing = [], []
    for name in CORE:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    lines = [Finding("ok", "libraries", ", ".join(found))]
    if missing:
        lines.append(Finding("broken", "libraries", f"missing: {', '.join(missing)}", "pip install deepseek"))
    return lines


def _runtimes() -> list[Finding]:
    lines = []
    for name in RUNTIMES.names():
        try:
            state = RUNTIMES.get(name).available()
        except ImportError as error:
            lines.append(Finding("broken", f"runtime {name}", str(error), "reinstall the library it names"))
            continue
        lines.append(Finding("ok" if state.works else "missing", f"runtime {name}", state.detail))
        if name == "torch" and state.devices == ("cpu",):
            remedy = "for an NVIDIA or AMD GPU, install the PyTorch build that pytorch.org/get-started names"
            lines.append(Finding("missing", "GPU", "none that PyTorch can use", remedy))
    for name in CORES.names():
        state = CORES.get(name).available()
        lines.append(Finding("ok" if state.works else "missing", f"generation {name}", state.detail))
    return lines


def _extras() -> list[Finding]:
    needs: dict[str, list[str]] = {}
    try:
        lines = requires("deepseek") or []
    except PackageNotFoundError:
        return [Finding("broken", "extras", "the package deepseek is not installed", "pip install deepseek")]
    for line in lines:
        if match := re.match(r"([A-Za-z0-9._-]+).*;.*extra\s*==\s*['\"]([\w-]+)['\"]", line):
            needs.setdefault(match.group(2), []).append(match.group(1))
    found = []
    for extra, libraries in sorted(needs.items()):
        absent = [name for name in libraries if name != "deepseek" and not _installed(name)]
        if absent:
            found.append(
                Finding(
                    "missing", f"extra {extra}", f"missing: {', '.join(absent)}", f"pip install 'deepseek[{extra}]'"
                )
            )
        else:
            found.append(
                Finding("ok", f"extra {extra}", ", ".join(n for n in libraries if n != "deepseek") or "all there")
            )
    return found


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _cache() -> list[Finding]:
    folder = cache_dir()
    existing = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        return [Finding("broken", "cache", f"{folder} cannot be written", "set DEEPSEEK_CACHE to a folder of yours")]
    if free < LOW_DISK_BYTES:
        return [
            Finding(
                "missing", "cache", f"{folder}, only {free / 1e9:.1f} GB free", "free some disk, or set DEEPSEEK_CACHE"
            )
        ]
    return [Finding("ok", "cache", f"{folder}, {free / 1e9:.0f} GB free")]

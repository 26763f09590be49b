"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "deepseek", "torch", "transformers", "tokenizers", "accelerate", "peft", "safetensors", "numpy", "pyarrow",
    "pylance", "bitsandbytes", "datasets", "scikit-learn",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Versions, machine and code; nothing about the user."""
    import torch

    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "processes": int(os.environ.get("WORLD_SIZE") or 1),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name)) is not None},
        "git": _git(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    """The commit of the repository that the run was started in, and whether tracked files differ from it."""
    try:
        commit = _ask("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_ask("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _ask(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)  # noqa: S603, S607
    return done.stdout.strip()

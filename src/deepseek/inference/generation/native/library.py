"""Compiles the C source for this processor, once, and loads it."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from deepseek.artifacts.cache import cache_dir, staged_directory

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("decoder.c")
NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "f16c", "fma")
"""Of the processor, by Linux's names."""
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC", "-std=c11")
LIBRARY = "decoder.so"


@cache
def missing() -> str:
    """What keeps the source from being compiled here, in words; empty if nothing does."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"made for Linux on x86-64, this is {platform.system()} on {platform.machine()}"
    lacking = [name for name in NEEDED if name not in _processor_flags()]
    if lacking:
        return f"the processor lacks {', '.join(lacking)}"
    if _compiler() is None:
        return "no C compiler (cc, gcc or clang); Debian's package gcc brings one"
    return ""


def library() -> ctypes.CDLL | None:
    """The compiled source; ``None`` where :func:`missing` says why, or where the compiler fails, which is logged."""
    return None if missing() else _compiled(str(cache_dir()))


@cache
def _compiled(folder: str) -> ctypes.CDLL | None:
    compiler = _compiler()
    assert compiler is not None
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    parts = [SOURCE.read_text(encoding="utf-8"), *FLAGS, version, " ".join(sorted(_processor_flags()))]
    target = Path(folder) / "native" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    if not (target / LIBRARY).is_file():
        with staged_directory(target, replace=True) as stage:
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(stage / LIBRARY), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                logger.warning(
                    "steps of few tokens run in OpenVINO, not in C: %s\n%s", " ".join(command), done.stderr.strip()
                )
                return None
    return ctypes.CDLL(str(target / LIBRARY))


def _compiler() -> str | None:
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@cache
def _processor_flags() -> frozenset[str]:
    try:
        found = re.search(r"^flags\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return frozenset()
    return frozenset(found.group(1).split()) if found else frozenset()

"""A C source that is compiled for this processor, once, and loaded."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deepseek.artifacts.cache import cache_dir, staged_directory

logger = logging.getLogger(__name__)

HEADERS = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC", "-std=gnu11", f"-I{HEADERS}")


@dataclass(frozen=True)
class Source:
    """A C file for Linux on x86-64.

    Args:
        path: of the file; it may include headers beside it and those of :data:`HEADERS`.
        needs: of the processor, by Linux's names.
        defines: names that are defined for it.
    """

    path: Path
    needs: tuple[str, ...]
    defines: tuple[str, ...] = ()

    def missing(self) -> str:
        """What keeps the source from being compiled here, in words; empty if nothing does."""
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            return f"made for Linux on x86-64, this is {platform.system()} on {platform.machine()}"
        if lacking := [name for name in self.needs if name not in processor_flags()]:
            return f"the processor lacks {', '.join(lacking)}"
        if compiler() is None:
            return "no C compiler (cc, gcc or clang); Debian's package gcc brings one"
        return ""

    def library(self) -> ctypes.CDLL | None:
        """The compiled source; ``None`` where :meth:`missing` says why, or the compiler fails, which is logged."""
        return None if self.missing() else _compiled(self.path, self.defines, str(cache_dir()))

    def function(self, name: str, *structures: type[ctypes.Structure]) -> Callable[..., int] | None:
        """One of its functions that takes addresses of such structures and returns an int; ``None`` as above."""
        return _function(self, name, structures)


@cache  # what a hot path asks for each time
def _function(source: Source, name: str, structures: tuple[type[ctypes.Structure], ...]) -> Callable[..., int] | None:
    library = source.library()
    if library is None:
        return None
    found = library[name]
    found.argtypes, found.restype = [ctypes.POINTER(each) for each in structures], ctypes.c_int
    return found


@cache
def _compiled(source: Path, defines: tuple[str, ...], folder: str) -> ctypes.CDLL | None:
    chosen = compiler()
    assert chosen is not None
    version = subprocess.run([chosen, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    headers = sorted({*HEADERS.glob("*.h"), *source.parent.glob("*.h")})
    texts = [each.read_text(encoding="utf-8") for each in (source, *headers)]
    flags = [*FLAGS, *(f"-D{name}" for name in defines)]
    parts = [*texts, *FLAGS[:-1], *defines, version, " ".join(sorted(processor_flags()))]
    target = Path(folder) / "native" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    file = target / f"{source.stem}.so"
    if not file.is_file():
        with staged_directory(target, replace=True) as stage:
            command = [chosen, *flags, str(source), "-o", str(stage / file.name), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                logger.warning("%s cannot be compiled: %s\n%s", source.name, " ".join(command), done.stderr.strip())
                return None
    return ctypes.CDLL(str(file))


@cache
def compiler() -> str | None:
    """Path of the C compiler: ``$CC``, ``cc``, ``gcc`` or ``clang``."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@cache
def processor_flags() -> frozenset[str]:
    """What the processor can, by Linux's names."""
    try:
        found = re.search(r"^flags\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return frozenset()
    return frozenset(found.group(1).split()) if found else frozenset()

"""Weights that are pages of a file: safetensors are mapped, and a page is read when it is first touched.

Pages that were touched count as the process's resident memory until the system takes them back. They need not stay:
a clean page of a file can be given up at once, and is read again when it is needed. That is only true of pages that
nobody wrote to, so a mapping with written pages (a private copy, gone for ever if given up) is left alone.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SMAPS = Path("/proc/self/smaps")
_HEADER = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+\s+(/.*\.safetensors)(?: \(deleted\))?$")
_DONTNEED = 4
"""``MADV_DONTNEED`` of Linux, which is the only system where :func:`mappings` finds anything."""


@dataclass(frozen=True)
class Mapping:
    """A safetensors file in the address space.

    Attributes:
        start, end: addresses.
        resident: bytes of its pages that are in memory.
        clean: no page was written to.
    """

    start: int
    end: int
    path: str
    resident: int
    clean: bool

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor's numbers lie in the file."""
        start = tensor.data_ptr()
        return bool(self.start <= start and start + tensor.numel() * tensor.element_size() <= self.end)


def mappings() -> list[Mapping]:
    """The mapped safetensors files; none where the system does not tell."""
    found: list[Mapping] = []
    header: re.Match[str] | None = None
    resident = 0
    try:
        lines = _SMAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        if line and line[0] in "0123456789abcdef" and "-" in line.split(" ", 1)[0]:
            header = _HEADER.match(line)
        elif header is not None and line.startswith("Rss:"):
            resident = int(line.split()[1]) * 1024
        elif header is not None and line.startswith("Anonymous:"):
            clean = line.split()[1] == "0"
            found.append(Mapping(int(header[1], 16), int(header[2], 16), header[3], resident, clean))
            header = None
    return found


def release(tensors: Iterable[torch.Tensor], files: Iterable[Mapping]) -> int:
    """Give up the resident pages of tensors that lie in clean ``files``; returns their bytes. Values stay the same."""
    regions = [file for file in files if file.clean]
    if not regions:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    page, given = mmap.PAGESIZE, 0
    for tensor in tensors:
        if not any(region.holds(tensor) for region in regions):
            continue
        start = -(-tensor.data_ptr() // page) * page  # whole pages of this tensor only
        end = (tensor.data_ptr() + tensor.numel() * tensor.element_size()) // page * page
        if end > start and libc.madvise(start, end - start, _DONTNEED) == 0:
            given += end - start
    return given

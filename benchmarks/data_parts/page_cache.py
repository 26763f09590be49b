"""Bringing files to the disk and out of the page cache, without privileges."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def flush(path: Path) -> None:
    """Wait until a file, or everything in a folder, is on the disk."""
    for handle in _handles(path):
        os.fsync(handle)


def drop_pages(path: Path) -> None:
    """Drop a file's pages, or those of everything in a folder, from the page cache."""
    for handle in _handles(path):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def _handles(path: Path) -> Iterator[int]:
    files = (entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else iter([path])
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        try:
            yield handle
        finally:
            os.close(handle)


def load_pages(path: Path) -> None:
    """Read a file, or all files of a folder, so that their pages are in the page cache.

    Some kernels give up pages that were not used for seconds. Without this, a contestant that goes through its whole
    file in each round would be the only one that reads from a warm cache.
    """
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb", buffering=0) as pages:
                while pages.read(8 << 20):
                    pass

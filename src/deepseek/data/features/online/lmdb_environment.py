"""LMDB files that are open in this process, each once, whatever the number of stores that use it.

LMDB forbids opening a file twice in one process, and an open file does not survive a fork: the child opens its own.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import lmdb

from deepseek.errors import OnlineStoreError

_MAX_READERS = 1024  # read transactions at the same time, over all processes
_open: dict[str, tuple[Any, int]] = {}  # path -> environment, users
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it
    for environment, _ in _open.values():
        environment.close()  # the child's copy only; LMDB's locks and reader slots belong to the parent
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def acquire(path: str, map_size: int) -> Any:
    """The environment of the file in the folder ``path``; the first user in a process sets the ``map_size``.

    Raises:
        OnlineStoreError: LMDB cannot open it.
    """
    name = os.path.realpath(path)
    with _lock:
        environment, users = _open.get(name, (None, 0))
        if environment is None:
            environment = _create(path, map_size)
        _open[name] = (environment, users + 1)
        return environment


def release(path: str, process: int) -> None:
    """Close the environment when its last user lets go of it."""
    name = os.path.realpath(path)
    with _lock:
        if process != os.getpid() or name not in _open:
            return
        environment, users = _open.pop(name)
        if users > 1:
            _open[name] = (environment, users - 1)
        else:
            environment.close()


def _create(path: str, map_size: int) -> Any:
    writable = os.access(path, os.W_OK) and os.access(Path(path) / "data.mdb", os.W_OK | os.F_OK)
    writable = writable or not (Path(path) / "data.mdb").exists()
    try:
        environment = lmdb.open(
            path,
            map_size=map_size,
            readonly=not writable,
            lock=writable,
            create=writable,
            metasync=False,  # a power cut may undo the last write as a whole, data and state together
            max_readers=_MAX_READERS,
            readahead=False,  # reads are random
        )
        if writable:
            environment.reader_check()  # frees the slots of readers that were killed
    except lmdb.Error as error:
        raise typed(error, path) from error
    return environment


def typed(error: Exception, path: str) -> OnlineStoreError:
    """The error for one of LMDB's: what happened and what to do."""
    text = str(error)
    if isinstance(error, lmdb.MapFullError):
        return OnlineStoreError(
            f"the online store {path} is full: it reached its map_size. Open it with a larger map_size."
        )
    if isinstance(error, lmdb.MapResizedError):
        return OnlineStoreError(
            f"the online store {path} grew beyond this process's map_size; open it with a larger map_size"
        )
    if isinstance(error, lmdb.ReadersFullError):
        return OnlineStoreError(
            f"the online store {path} has {_MAX_READERS} readers at this moment, the most that it can have"
        )
    if isinstance(error, lmdb.DiskError) or os.strerror(errno.ENOSPC) in text:
        return OnlineStoreError(
            f"the disk is full (or failed) while writing the online store {path}; its content is intact: {text}"
        )
    if isinstance(error, lmdb.MemoryError) or os.strerror(errno.ENOMEM) in text:
        return OnlineStoreError(
            f"the online store {path} cannot be mapped: the process may not use that much address space (ulimit -v). "
            f"Open it with a smaller map_size, such as {1 << 32}."
        )
    if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.VersionMismatchError):
        return OnlineStoreError(
            f"{path} is not an online store, or it is damaged: {text}. Remove it and materialise again."
        )
    return OnlineStoreError(f"the online store {path}: {text}")

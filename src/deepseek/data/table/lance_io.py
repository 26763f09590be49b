"""How data sets are opened: with caches of bounded size that all tables of this process share.

Lance would by default keep up to 6 GiB of indices and 1 GiB of metadata for each table that is opened. Its threads do
not survive a fork: a forked process that goes on using it crashes or, worse, reads wrong bytes (seen with pylance
14.0.2), so that is an error here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import lance

from deepseek.data.table import storage
from deepseek.errors import TableError

INDEX_CACHE_BYTES = 512 << 20
METADATA_CACHE_BYTES = 64 << 20

# Lance warns whenever this process forks, whatever the child does; using tables there is an error below
warnings.filterwarnings("ignore", message="lance is not fork-safe")

_session: tuple[int, Any] | None = None


def session() -> Any:
    """The Lance session of this process."""
    global _session
    require_own_process()
    if _session is None:
        made = lance.Session(index_cache_size_bytes=INDEX_CACHE_BYTES, metadata_cache_size_bytes=METADATA_CACHE_BYTES)
        _session = (os.getpid(), made)
    return _session[1]


def require_own_process() -> None:
    """Raise :class:`TableError` in a process that was forked off one that had used tables."""
    if _session is not None and _session[0] != os.getpid():
        raise TableError(
            "this process was forked off one that had used tables, and Lance's threads do not survive a fork. Start "
            "processes with multiprocessing.get_context('forkserver') or 'spawn', or read through "
            "deepseek.data.loading.Dataset, which forked workers may use."
        )


def open_dataset(
    path: str,
    version: int | None = None,
    options: Mapping[str, str] | None = None,
    *,
    scan: dict[str, Any] | None = None,
) -> Any:
    """The Lance data set at ``path``; ``scan`` are options that scans of it get by default. Errors are Lance's."""
    given = storage.options_for(path) if options is None else dict(options)
    return lance.dataset(path, version=version, storage_options=given, session=session(), default_scan_options=scan)

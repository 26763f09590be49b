"""The online side of a feature store: open stores and prepared readers, kept between calls.

A call must cost microseconds, so it looks its reader up by what was asked for, and neither lists definitions nor
opens anything. A reader is prepared again after ``REFRESH_SECONDS``, so that a new version of a view, registered by
another process, is served soon after."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from deepseek.data.features.online import OnlineStore, open_online_store
from deepseek.data.features.online.reader import OnlineReader, stored_schema
from deepseek.data.features.selection import select
from deepseek.data.features.view import FeatureView
from deepseek.data.table import Table, location
from deepseek.errors import ConfigError

REFRESH_SECONDS = 10.0
_MOST_READERS = 256

Asked = str | FeatureView | Sequence[str | FeatureView]
Online = OnlineStore | str | Path | None


class OnlineAccess:
    """Readers for a feature store at ``path``, whose views ``find`` gives by name and version."""

    def __init__(self, path: str, online: Online, find: Callable[[str, int | None], FeatureView]) -> None:
        self._path, self._default, self._find = path, online, find
        self._stores: dict[tuple[str, bool], OnlineStore] = {}
        self._readers: dict[Any, tuple[float, OnlineReader]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_default": self._default, "_find": self._find}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_path"], state["_default"], state["_find"])  # type: ignore[misc]

    def store(self, online: Online = None, *, to_read: bool = False) -> OnlineStore:
        """The online store that is given, or the feature store's own; opened once and kept.

        Args:
            to_read: do not make a local one that is not there.

        Raises:
            ConfigError: none is given, and the feature store has none of its own.
            OnlineStoreError: it cannot be opened.
        """
        chosen = self._default if online is None else online
        if isinstance(chosen, OnlineStore):
            return chosen
        if chosen is None:
            if location.is_remote(self._path):
                raise ConfigError(
                    f"online: the feature store {self._path} is in an object store, so its online store must be "
                    f"named: FeatureStore(path, online='redis://host:6379/0'), or a local folder"
                )
            chosen = Path(self._path) / "online"
        local = "://" not in str(chosen)
        name = (str(chosen), local and to_read)
        found = self._stores.get(name)
        if found is None:
            with self._lock:
                found = self._stores.get(name)
                if found is None:
                    options = {"read_only": True} if name[1] else {}
                    found = self._stores[name] = open_online_store(chosen, **options)
        return found

    def reader(self, asked: Asked, online: Online, full_feature_names: bool) -> OnlineReader:
        """The reader for what is asked for; prepared at the first call."""
        name = (asked if isinstance(asked, str | FeatureView) else tuple(asked), online, full_feature_names)
        known = self._readers.get(name)
        if known is not None and time.monotonic() - known[0] < REFRESH_SECONDS:
            return known[1]
        store = self.store(online, to_read=True)

        def stored(view: FeatureView) -> Table:
            return cast(Table, _Stored(stored_schema(store, view)))

        parts = select(asked, self._find, stored, full_feature_names=True)
        taken = {name for each in parts for name in (*each.view.entities, *each.view.request_columns(each.features))}
        parts = select(asked, self._find, stored, taken=taken, full_feature_names=full_feature_names)
        reader = OnlineReader(store, parts)
        with self._lock:
            if len(self._readers) >= _MOST_READERS:
                self._readers.clear()
            self._readers[name] = (time.monotonic(), reader)
        return reader

    def forget(self) -> None:
        """Prepare readers again at their next call, since definitions changed."""
        self._readers.clear()

    def close(self) -> None:
        """Close the stores that were opened here."""
        self._readers.clear()
        while self._stores:
            self._stores.popitem()[1].close()


@dataclass(frozen=True)
class _Stored:
    """Stands in for the view's table where a selection needs its columns: the columns that were materialised."""

    schema: pa.Schema

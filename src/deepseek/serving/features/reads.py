"""Reads features from a feature store's online store, for any protocol.

Design:

- What does not depend on the keys is prepared once for each set of features, in a thread, and prepared again in the
  background after ``REFRESH_SECONDS``: a read meanwhile is answered as the definitions were.
- A small read from the embedded store takes some microseconds and happens on the event loop. Reads of many keys, from
  Redis, or with transformations go to a few threads; when too many wait for those, the next is refused.
- What is wrong with the store (away, not materialised) is logged with its address, and told without it.

Not here: writing features, and history; both belong to training and its jobs.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from deepseek.data.features import FeatureStore
from deepseek.data.features.online import open_online_store
from deepseek.data.features.online.reader import OnlineReader, stored_schema
from deepseek.errors import ConfigError, OnlineStoreError, TransformationError, UnknownNameError
from deepseek.serving.errors import NotReadyError, QueueFullError, RequestError
from deepseek.serving.features.catalogue import Catalogue, read_catalogue, view_asked_for
from deepseek.serving.features.config import FeatureServingConfig
from deepseek.serving.features.entity_values import EntityReader

logger = logging.getLogger("deepseek.serving")

REFRESH_SECONDS = 10.0
MOST_INLINE = 64
"""Keys of a read that happens on the event loop: about 0.1 ms."""
_THREADS = 4
_MOST_PREPARED = 256
_MOST_FEATURES = 256

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FeatureRequest:
    """What a client asks for."""

    features: tuple[str, ...]
    """``view``, ``view:feature``, ``view@version``."""
    entities: list[dict[str, Any]] = field(default_factory=list)
    texts: tuple[str, ...] = ()
    """Keys as text, of views with one key column; in the place of ``entities``."""
    at: dt.datetime | None = None
    full_feature_names: bool = False


class _Prepared(NamedTuple):
    reader: OnlineReader
    entities: EntityReader
    inline: bool
    """Whether a read of few keys never waits."""
    at: float


class FeatureReads:
    """Reads from one feature store; used on the event loop, once it is open."""

    def __init__(self, config: FeatureServingConfig) -> None:
        """Open the stores; blocks.

        Raises:
            UnknownNameError: a view of ``config.views`` is not registered.
            ConfigError: the online store must be named, or its address is none.
            OnlineStoreError: the online store is not there or cannot be reached.
        """
        self.config = config
        path = str(config.path)
        if config.online is None and "://" in path:
            raise ConfigError(
                f"features: the feature store {path} is in an object store, so its online store must be named: "
                f"online='redis://host:6379/0', or a local folder"
            )
        chosen = str(config.online) if config.online is not None else f"{path.rstrip('/')}/online"
        options = {} if "://" in chosen else {"read_only": True}
        self._online = open_online_store(chosen, **options)
        self._store = FeatureStore(path, online=self._online)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="deepseek-features")
        self._waiting = 0
        self._prepared: dict[tuple[tuple[str, ...], bool], _Prepared] = {}
        self._refreshing: set[tuple[tuple[str, ...], bool]] = set()
        self._catalogue = self._read_catalogue()
        self._catalogue_at = time.monotonic()

    def close(self) -> None:
        """End the threads and close the stores."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._store.close()
        self._online.close()

    async def catalogue(self) -> Catalogue:
        """The views that are served, by name; at most ``REFRESH_SECONDS`` old."""
        if time.monotonic() - self._catalogue_at >= REFRESH_SECONDS:
            self._catalogue = await self._in_thread(self._read_catalogue)
            self._catalogue_at = time.monotonic()
        return self._catalogue

    async def views(self, features: tuple[str, ...]) -> list[str]:
        """Names of the views that ``features`` ask for, each once; raises as :meth:`rows` for unknown ones."""
        catalogue = await self.catalogue()
        return list(dict.fromkeys(view_asked_for(each, catalogue)[0] for each in features))

    async def rows(self, request: FeatureRequest) -> list[dict[str, Any]]:
        """Each entity with its features, ``None`` where nothing is known or it is older than the view's ttl.

        Raises:
            RequestError: the request is malformed; ``DataError``: a key or a time is.
            UnknownNameError: the server has no such view, version or feature.
            NotReadyError: the online store cannot be read now, or lacks the view.
            QueueFullError: too many reads wait.
        """
        return await self._read(request, OnlineReader.rows)

    async def table(self, request: FeatureRequest) -> pa.Table:
        """As :meth:`rows`, as an Arrow table with the types that the features have in training."""
        return await self._read(request, OnlineReader.table, inline=False)

    async def _read(self, request: FeatureRequest, read: Callable[..., T], *, inline: bool = True) -> T:
        count = len(request.entities) or len(request.texts)
        if not 1 <= count <= self.config.max_entities:
            raise RequestError(f"entities: expected 1 to {self.config.max_entities}, received {count}")
        prepared = await self._prepare(request.features, request.full_feature_names)
        entities = request.entities or [prepared.entities.parse(text) for text in request.texts]
        keys = prepared.entities.check(entities)
        with self._told():
            if inline and prepared.inline and count <= MOST_INLINE:
                return read(prepared.reader, keys, request.at)
            return await self._in_thread(lambda: read(prepared.reader, keys, request.at))

    async def _prepare(self, features: tuple[str, ...], full: bool) -> _Prepared:
        asked = (features, full)
        known = self._prepared.get(asked)
        if known is not None:
            if time.monotonic() - known.at >= REFRESH_SECONDS and asked not in self._refreshing:
                self._refreshing.add(asked)
                asyncio.get_running_loop().create_task(self._refresh(asked))
            return known
        if not features:
            raise RequestError("features: expected at least one, such as 'view' or 'view:feature'; received none")
        if len(features) > _MOST_FEATURES:
            raise RequestError(f"features: expected at most {_MOST_FEATURES}, received {len(features)}")
        catalogue = await self.catalogue()
        views = [view_asked_for(each, catalogue) for each in features]
        with self._told():
            prepared = await self._in_thread(lambda: self._open(features, full, views))
        if len(self._prepared) >= _MOST_PREPARED:
            self._prepared.clear()
        self._prepared[asked] = prepared
        return prepared

    async def _refresh(self, asked: tuple[tuple[str, ...], bool]) -> None:
        try:
            catalogue = await self.catalogue()
            views = [view_asked_for(each, catalogue) for each in asked[0]]
            self._prepared[asked] = await self._in_thread(lambda: self._open(*asked, views))
        except Exception as error:  # noqa: BLE001  the next read meets it and tells its client
            logger.warning("features %s cannot be prepared again: %s", ", ".join(asked[0]), error)
            self._prepared.pop(asked, None)
        finally:
            self._refreshing.discard(asked)

    def _open(self, features: tuple[str, ...], full: bool, asked: list[tuple[str, int | None]]) -> _Prepared:
        views = [self._store.view(name, version) for name, version in dict.fromkeys(asked)]
        reader = self._store.online_reader(features, full_feature_names=full)
        kinds: dict[str, pa.DataType] = {}
        request: dict[str, str] = {}
        for view in views:
            schema = stored_schema(self._online, view)
            kinds |= {name: schema.field(name).type for name in view.entities}
            request |= view.request_columns(view.feature_names(schema))
        inline = not self._online.remote and not any(view.transformations for view in views)
        return _Prepared(reader, EntityReader(kinds, request), inline, time.monotonic())

    def _read_catalogue(self) -> Catalogue:
        return read_catalogue(self._store, self._online, self.config.views)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._waiting >= self.config.max_waiting:
            raise QueueFullError(f"{self._waiting} reads of features wait already; retry later", 1.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What clients are told of the store's errors: neither where it is nor how it is reached."""
        try:
            yield
        except OnlineStoreError as error:
            logger.warning("features cannot be read: %s", error)
            raise NotReadyError(
                "the features cannot be read now: they were not materialised, or the online store is away; "
                "the server's log has the details"
            ) from error
        except TransformationError as error:
            raise RuntimeError("a transformation failed") from error  # ours: its details go to the log alone
        except UnknownNameError as error:
            raise UnknownNameError(error.kind, error.name, error.known) from error

"""The feature store: registered views, and the features of entities at any time."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deepseek.data.engines import Engine, get_engine
from deepseek.data.features.definitions import Definitions
from deepseek.data.features.entity_rows import EntityRows, EntityStream
from deepseek.data.features.history import history_batches
from deepseek.data.features.online.access import Online, OnlineAccess
from deepseek.data.features.selection import Selection, find_view, select
from deepseek.data.features.view import FeatureView
from deepseek.data.table import Table
from deepseek.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from deepseek.data.features.materialization import MaterializationReport
    from deepseek.data.features.online.reader import Keys, OnlineReader

_MOST_INLINE = 1000  # keys; about a millisecond of embedded reads
CHUNK_ROWS = 4_000_000
"""Entity rows that are worked on at once; each chunk reads the views' keys and times once."""


class FeatureStore:
    """A folder (or object-store prefix) with the definitions of feature views; the features stay in their tables.

    Args:
        path: made at the first :meth:`register`.
        online: the online store, open or as a path or address (``redis://host:6379/0``); by default the folder
            ``online`` inside ``path``.
    """

    def __init__(self, path: str | Path, *, online: Online = None) -> None:
        self._definitions = Definitions(path)
        self._online = OnlineAccess(self._definitions.path, online, self.view)

    def __repr__(self) -> str:
        return f"FeatureStore({self.path!r})"

    @property
    def path(self) -> str:
        """Where the definitions are, as an address or an absolute path."""
        return self._definitions.path

    def register(self, view: FeatureView) -> FeatureView:
        """Check a view against its table and keep its definition; registering the same again changes nothing.

        Returns:
            The view as it is registered, with an absolute source.

        Raises:
            UnknownNameError: the table lacks a column; the nearest names are in the message.
            ConfigError: a column has the wrong type, a transformation cannot be imported by another process, or this
                version is registered with another definition (the difference is in the message).
            TableError: there is no table at ``source``.
        """
        view.validate_schema(view.open().schema)
        for step in view.transformations:
            step.require_registrable()
        self._online.forget()
        return self._definitions.write(view)

    def view(self, name: str, version: int | None = None) -> FeatureView:
        """A registered view, at its highest version by default.

        Raises:
            UnknownNameError: there is no such view or version.
        """
        return self._definitions.read(name, version)

    def views(self) -> list[FeatureView]:
        """All registered views, each at its highest version, by name."""
        return [self._definitions.read(name) for name in self._definitions.names()]

    def versions(self, name: str) -> list[int]:
        """The registered versions of a view, ascending; empty when there is no such view."""
        return self._definitions.versions(name)

    def delete(self, name: str, version: int | None = None) -> None:
        """Remove a version of a view, or all of them, from the registry; the table stays.

        Raises:
            UnknownNameError: there is no such view or version.
        """
        self._online.forget()
        self._definitions.delete(name, version)

    def select(
        self,
        features: str | FeatureView | Sequence[str | FeatureView],
        *,
        at_version: Mapping[str, int | str] | None = None,
        taken: Sequence[str] = (),
        full_feature_names: bool = False,
    ) -> list[Selection]:
        """What ``features`` ask for: views, tables and the names of the result's columns; see :meth:`history`."""
        pinned = dict(at_version or {})
        used: set[str] = set()

        def open_table(view: FeatureView) -> Table:
            used.add(view.name)
            return view.open(pinned.get(view.name))

        selections = select(features, self.view, open_table, taken=taken, full_feature_names=full_feature_names)
        if unused := [name for name in pinned if name not in used]:
            raise UnknownNameError("view in at_version", unused[0], used, hint="It is not among the features.")
        return selections

    def history(
        self,
        entity_rows: EntityRows,
        features: str | FeatureView | Sequence[str | FeatureView],
        *,
        time: str = "event_time",
        engine: str | Engine = "local",
        at_version: Mapping[str, int | str] | None = None,
        full_feature_names: bool = False,
    ) -> pa.Table:
        """Each entity row with the features as they were known at its time; no later row has any influence.

        Args:
            entity_rows: Arrow table, batch or reader, :class:`Table`, pandas frame, or iterable of dicts or batches,
                with the views' entity columns, a time column, request columns of transformations, and any others.
            features: ``"view"`` for all features, ``"view:feature"``; ``"view@2"`` for version 2 of a definition; or
                views that are not registered.
            time: the column that says at what time a row is (timestamps; without a zone, UTC).
            engine: ``"local"`` or ``"ray"``; the result is the same.
            at_version: view name to the version number or tag of its table to read; the newest by default.
            full_feature_names: call all feature columns ``view__feature``, not only those that would be ambiguous.

        Returns:
            The columns of the entity rows in their order, then the features, by view. Features are null where nothing
            was known yet, or it was older than the view's ttl. The schema's metadata ``deepseek.features`` says which
            versions of definitions and tables were read.

        Raises:
            UnknownNameError: a view, feature or column is not there; the nearest names are in the message.
            ConfigError: the time column is not a timestamp, or names of columns collide.
            DataError: a key has another type than in the view's table, or a transformation failed.
        """
        return self.history_batches(
            entity_rows,
            features,
            time=time,
            engine=engine,
            at_version=at_version,
            full_feature_names=full_feature_names,
        ).read_all()

    def history_batches(
        self,
        entity_rows: EntityRows,
        features: str | FeatureView | Sequence[str | FeatureView],
        *,
        time: str = "event_time",
        engine: str | Engine = "local",
        at_version: Mapping[str, int | str] | None = None,
        full_feature_names: bool = False,
        chunk_rows: int = CHUNK_ROWS,
    ) -> pa.RecordBatchReader:
        """As :meth:`history`, for entity rows or features that are larger than memory; the rows are the same.

        Args:
            chunk_rows: entity rows held at once, about 100 bytes each and what they themselves take. Each chunk reads
                the keys and times of the views' tables once, so larger chunks are faster.

        Returns:
            A reader of record batches of at most about 64 MB of features, which :meth:`Table.create` takes as rows.
        """
        if chunk_rows < 1:
            raise ConfigError(f"chunk_rows: expected at least 1, received {chunk_rows}")
        rows = EntityStream(entity_rows)
        selections = self.select(
            features, at_version=at_version, taken=rows.schema.names, full_feature_names=full_feature_names
        )
        return history_batches(rows, selections, time=time, engine=get_engine(engine), chunk_rows=chunk_rows)

    def materialize(
        self,
        view: str | FeatureView,
        *,
        until: dt.datetime | None = None,
        online: Online = None,
        engine: str | Engine = "local",
    ) -> MaterializationReport:
        """Bring the online store up to date with a view's table; only what changed since the last time is read.

        Safe to kill at any moment and to run again.

        Args:
            view: ``"view"``, ``"view@2"``, or a view that is not registered.
            until: rows visible at this time go online (without a zone, UTC); by default now. Later ones follow when a
                later run's time has reached them.
            online: another online store than this feature store's.
            engine: where the table is read; the result is the same.

        Raises:
            UnknownNameError: there is no such view.
            StaleWriteError: another process materialised the view at the same time; nothing is lost, run again.
            OnlineStoreError: the online store cannot be reached or written.
        """
        from deepseek.data.features.materialization import materialize

        if isinstance(view, str):
            view = find_view(view, self.view)
        return materialize(view, self._online.store(online), until=until, engine=engine)

    def online(
        self,
        features: str | FeatureView | Sequence[str | FeatureView],
        keys: Keys,
        *,
        at: dt.datetime | None = None,
        online: Online = None,
        full_feature_names: bool = False,
    ) -> list[dict[str, Any]]:
        """The newest features of the given keys, as of the last :meth:`materialize`, equal to those of :meth:`history`.

        Args:
            features: as in :meth:`history`.
            keys: dicts, or a dict of lists, with the views' entity columns, request columns of transformations, and
                any others, which come back as they are.
            at: the time at which rows must not be older than their view's ttl; by default now.
            online: another online store than this feature store's.
            full_feature_names: call all features ``view__feature``.

        Returns:
            One dict for each key, in their order: its columns, then the features; ``None`` where nothing is known, or
            it is older than the ttl.

        Raises:
            UnknownNameError: there is no such view or feature.
            DataError: a key lacks a column or has a wrong type, or ``at`` lies before a row that is online.
            OnlineStoreError: a view was not materialised, or the online store cannot be reached.
        """
        return self._online.reader(features, online, full_feature_names).rows(keys, at)

    def online_reader(
        self,
        features: str | FeatureView | Sequence[str | FeatureView],
        *,
        online: Online = None,
        full_feature_names: bool = False,
    ) -> OnlineReader:
        """A prepared read, for servers: it opens nothing any more, and threads may share it.

        It keeps to the definitions as they are now; ask again for later ones. Arguments and errors as in
        :meth:`online`.
        """
        return self._online.reader(features, online, full_feature_names)

    def online_batch(
        self,
        features: str | FeatureView | Sequence[str | FeatureView],
        keys: Keys | pa.Table,
        *,
        at: dt.datetime | None = None,
        online: Online = None,
        full_feature_names: bool = False,
    ) -> pa.Table:
        """As :meth:`online`, as an Arrow table with the types of :meth:`history`; ``keys`` may be one, too."""
        return self._online.reader(features, online, full_feature_names).table(keys, at)

    async def online_async(
        self,
        features: str | FeatureView | Sequence[str | FeatureView],
        keys: Keys,
        *,
        at: dt.datetime | None = None,
        online: Online = None,
        full_feature_names: bool = False,
    ) -> list[dict[str, Any]]:
        """As :meth:`online`, without holding up the event loop: in a thread, unless the answer is in this process."""
        reader = self._online.reader(features, online, full_feature_names)
        if reader.store.remote or len(keys) > _MOST_INLINE:
            return await asyncio.to_thread(reader.rows, keys, at)
        return reader.rows(keys, at)

    def close(self) -> None:
        """Close the online stores that were opened by path or address."""
        self._online.close()

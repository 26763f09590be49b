"""An online store on SQLite, which ``benchmarks/online_store.py`` measures beside the package's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from deepseek.data.features.online import Space


class SQLiteStore:
    """The contract's reads and writes on SQLite."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=60)
        for pragma in ("page_size=8192", "journal_mode=wal", "synchronous=normal", "mmap_size=1073741824"):
            self._db.execute(f"pragma {pragma}").fetchone()
        self._db.execute(
            "create table if not exists records (space integer, key blob, record blob, primary key (space, key)) "
            "without rowid"
        )
        self._queries: dict[int, str] = {}

    def write(self, space: Space, records: Sequence[tuple[bytes, bytes]]) -> int:
        """Merge records; one transaction."""
        del space
        before = self._db.total_changes
        self._db.execute("begin immediate")
        self._db.executemany(
            "insert into records values (1, ?, ?) on conflict do update set record = excluded.record "
            "where excluded.record > record",
            sorted(records),
        )
        self._db.execute("commit")
        return self._db.total_changes - before

    def read(self, space: Space, keys: Sequence[bytes]) -> list[bytes | None]:
        """The record of each key."""
        del space
        query = self._queries.get(len(keys))
        if query is None:
            marks = ",".join("?" * len(keys))
            query = f"select key, record from records where space = 1 and key in ({marks})"  # noqa: S608
            self._queries[len(keys)] = query
        found = dict(self._db.execute(query, keys).fetchall())
        return [found.get(key) for key in keys]

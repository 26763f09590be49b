"""Older answers in a SQLite file: key, answer, score, time. The file is readable by its owner only.

Deleted rows are overwritten (``secure_delete``). A file that cannot be written (a full disk) fails no request and no
label: what should go into it stays with whoever wants it written, and answers in it can still be taken. The log says
once that it fails, and once that it works again. Several processes may share a file, as the workers of one server do.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from deepseek.errors import ConfigError
from deepseek.monitoring.quality.answers import Kept

logger = logging.getLogger("deepseek.monitoring")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


class SpillFile:
    """At most ``most_rows`` answers on disk; used from any thread.

    A disk that is full at the start is as one that fills up later: the file is opened when there is room.

    Raises:
        ConfigError: the file cannot be made, or is no database.
    """

    def __init__(self, path: Path, most_rows: int) -> None:
        self._path = path
        self._most_rows = most_rows
        self._lock = threading.Lock()
        self._fails = False
        self._taken: set[str] = set()
        """Answers that were taken out, and could not be deleted yet."""
        self._opened: sqlite3.Connection | None = None
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            if not _is_full(error):
                raise ConfigError(f"quality.spill_folder: cannot keep answers in {path}: {error}") from error
            self._failed(error)

    def _open(self) -> sqlite3.Connection:
        if self._opened is not None:
            return self._opened
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        with contextlib.ExitStack() as undo:
            database = sqlite3.connect(self._path, check_same_thread=False, timeout=5.0, isolation_level=None)
            undo.callback(database.close)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA secure_delete = ON")
            database.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(key TEXT PRIMARY KEY, answer TEXT NOT NULL, score REAL, at REAL NOT NULL) WITHOUT ROWID"
            )
            database.execute("CREATE INDEX IF NOT EXISTS answers_at ON answers (at)")
            undo.pop_all()
        self._opened = database
        return database

    def write(self, answers: Iterable[tuple[str, Kept]]) -> bool:
        """Add answers, all or none; the oldest make room. Returns whether they are in the file."""
        rows = [(key, json.dumps(answer), score, at) for key, (answer, score, at) in answers]
        with self._lock:
            try:
                with self._transaction() as database:
                    database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", rows)
                    (count,) = database.execute("SELECT count(*) FROM answers").fetchone()
                    if count > self._most_rows:
                        excess = "SELECT key FROM answers ORDER BY at LIMIT ?"
                        database.execute(f"DELETE FROM answers WHERE key IN ({excess})", (count - self._most_rows,))  # noqa: S608
            except (OSError, sqlite3.Error) as error:
                self._failed(error)
                return False
            if self._fails:
                self._fails = False
                logger.warning("answers can be kept in %s again", self._path)
            return True

    def pop(self, key: str) -> Kept | None:
        """Take an answer out of the file."""
        with self._lock:
            try:
                rows = [] if key in self._taken else self._delete(self._open(), key)
            except (OSError, sqlite3.Error) as error:
                self._failed(error)
                return None
        return (json.loads(rows[0][0]), rows[0][1], rows[0][2]) if rows else None

    def _delete(self, database: sqlite3.Connection, key: str) -> list[tuple[str, float | None, float]]:
        try:
            # all of them: a statement that returns rows is committed once it was read to its end
            return database.execute("DELETE FROM answers WHERE key = ? RETURNING answer, score, at", (key,)).fetchall()
        except sqlite3.Error as error:  # it may still be readable
            self._failed(error)
            rows = database.execute("SELECT answer, score, at FROM answers WHERE key = ?", (key,)).fetchall()
            if rows:
                self._taken.add(key)
            return rows

    def forget_before(self, at: float) -> None:
        """Delete answers that are older."""
        with self._lock:
            try:
                with self._transaction() as database:
                    database.execute("DELETE FROM answers WHERE at < ?", (at,))
            except (OSError, sqlite3.Error) as error:
                self._failed(error)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Begin by deleting what was taken, so that a key that is used again is not taken for the old one."""
        database = self._open()
        database.execute("BEGIN IMMEDIATE")
        try:
            if self._taken:
                database.executemany("DELETE FROM answers WHERE key = ?", [(key,) for key in self._taken])
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self._taken.clear()

    def _failed(self, error: Exception) -> None:
        """Tell the log once, until something is written again; less room is needed to delete, so that says nothing."""
        if not self._fails:
            self._fails = True
            logger.error("answers cannot be kept in %s for labels that come later: %s", self._path, error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()


def _is_full(error: OSError | sqlite3.Error) -> bool:
    """Whether a disk has no room, or a file reached its limit; for SQLite the latter is an I/O error."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _FULL_SQLITE

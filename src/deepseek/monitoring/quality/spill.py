"""Older answers in a SQLite file: key, answer, score, time. The file is readable by its owner only.

Deleted rows are overwritten (``secure_delete``). A file that cannot be written (a full disk) loses answers, never a
request: the loss is logged and counted. Several processes may share a file, as the workers of one server do.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

from deepseek.errors import ConfigError
from deepseek.monitoring.quality.answers import Kept

logger = logging.getLogger("deepseek.monitoring")


class SpillFile:
    """At most ``most_rows`` answers on disk; used from any thread.

    Raises:
        ConfigError: the file cannot be made, or is no database.
    """

    def __init__(self, path: Path, most_rows: int) -> None:
        self._most_rows = most_rows
        self._lock = threading.Lock()
        self.lost = 0
        """Answers that could not be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, timeout=5.0, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(key TEXT PRIMARY KEY, answer TEXT NOT NULL, score REAL, at REAL NOT NULL) WITHOUT ROWID"
            )
            self._db.execute("CREATE INDEX IF NOT EXISTS answers_at ON answers (at)")
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"quality.spill_folder: cannot keep answers in {path}: {error}") from error

    def write(self, answers: Iterable[tuple[str, Kept]]) -> None:
        """Add answers; the oldest make room."""
        rows = [(key, json.dumps(answer), score, at) for key, (answer, score, at) in answers]
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", rows)
                (count,) = self._db.execute("SELECT count(*) FROM answers").fetchone()
                if count > self._most_rows:
                    excess = "SELECT key FROM answers ORDER BY at LIMIT ?"
                    self._db.execute(f"DELETE FROM answers WHERE key IN ({excess})", (count - self._most_rows,))  # noqa: S608
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                self.lost += len(rows)
                logger.error("%d answers could not be kept for labels that come later: %s", len(rows), error)

    def pop(self, key: str) -> Kept | None:
        """Take an answer out of the file."""
        with self._lock:
            try:
                # all of them: a statement that returns rows is committed once it was read to its end
                rows = self._db.execute(
                    "DELETE FROM answers WHERE key = ? RETURNING answer, score, at", (key,)
                ).fetchall()
            except sqlite3.Error as error:
                logger.error("kept answers could not be read: %s", error)
                return None
        return (json.loads(rows[0][0]), rows[0][1], rows[0][2]) if rows else None

    def forget_before(self, at: float) -> None:
        """Delete answers that are older."""
        with self._lock:
            try:
                self._db.execute("DELETE FROM answers WHERE at < ?", (at,))
            except sqlite3.Error as error:
                logger.error("old answers could not be deleted: %s", error)

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

"""The file behind the SQLite store: schema, transactions, and what they return. Blocking; one thread uses it.

Design choices:

- One number, ``seq``, counts the transactions that others should learn of, and marks what each of them changed. Whoever
  remembers the last number it saw reads only what changed since.
- WAL, so that readers never wait. Counts are written with ``synchronous=NORMAL``: they survive ``kill -9`` of the
  process, and a power failure may cost the last of them. Changes of keys are written with ``FULL``: a revocation that
  was confirmed is on the disk.
- WAL needs shared memory, so all processes must be on the file's machine.
- A file that cannot be written is opened for reading, so that keys are known; each transaction tries again to open it
  for writing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from deepseek.errors import ConfigError
from deepseek.serving.access.keys import KeyRecord, decode, encode
from deepseek.serving.access.ledger import UsageRow
from deepseek.serving.access.limiter import Taken
from deepseek.serving.access.store import KEEP_TAKEN_DAYS, AccessStoreError
from deepseek.serving.access.window import WINDOW_SECONDS

_VERSION = 1
_PATIENT_MS = 5000
_HURRIED_MS = 400
_TRIES = 50
_BETWEEN_TRIES = 0.1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, record TEXT NOT NULL, created_at REAL NOT NULL,
  seq INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS keys_seq ON keys (seq);
CREATE TABLE IF NOT EXISTS usage (day INTEGER, key_id TEXT, model TEXT, requests INTEGER NOT NULL,
  rows INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, refused INTEGER NOT NULL,
  PRIMARY KEY (day, key_id, model)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS taken (day INTEGER, key_id TEXT, rows INTEGER NOT NULL, tokens INTEGER NOT NULL,
  seq INTEGER NOT NULL, PRIMARY KEY (day, key_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS taken_seq ON taken (seq);
CREATE TABLE IF NOT EXISTS recent (seq INTEGER NOT NULL, process TEXT NOT NULL, key_id TEXT NOT NULL,
  requests INTEGER NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS recent_seq ON recent (seq);
"""
_ADD_USAGE = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  requests = requests + excluded.requests, rows = rows + excluded.rows,
  input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
  refused = refused + excluded.refused
"""
_ADD_TAKEN = """
INSERT INTO taken VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  rows = rows + excluded.rows, tokens = tokens + excluded.tokens, seq = excluded.seq
"""


class News(NamedTuple):
    """What others wrote since the last :meth:`SqliteFile.news`."""

    records: list[KeyRecord]
    taken: list[tuple[int, str, int, int]]
    """(day, key, rows, tokens): totals of the day."""
    requests: list[tuple[str, int]]
    """(key, requests) of other processes within the last minute."""


class SqliteFile:
    """The file at ``path``; usage is kept for ``keep_usage_days``."""

    def __init__(self, path: Path, keep_usage_days: int) -> None:
        self.path = path
        self._keep_usage_days = keep_usage_days
        self._process = secrets.token_hex(8)
        self._seen = -1
        self._day = -1
        self._tidied = -1
        self._connection: sqlite3.Connection | None = None
        self._read_only = False

    def open(self) -> None:
        """Open the file, and make it if it is not there, for its owner only; raises :class:`AccessStoreError`."""
        try:
            self._open_to_write()
        except (OSError, sqlite3.Error) as error:
            self._open_to_read(error)
        version = self._number("version")
        if version != _VERSION:
            self.close()
            raise AccessStoreError(f"{self.path} has format {version}, this version of deepseek reads {_VERSION}")

    def _open_to_write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._connect("")
        try:
            for tries_left in reversed(range(_TRIES)):
                try:
                    self._prepare()
                    break
                except sqlite3.OperationalError as error:  # SQLite does not wait for others that switch to WAL as well
                    if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not tries_left:
                        raise
                    time.sleep(_BETWEEN_TRIES)
        except BaseException:
            self.close()
            raise
        self._read_only = False

    def _open_to_read(self, reason: Exception) -> None:
        """A read-only or full disk holds no shared memory for a WAL either; ``immutable`` does without.

        It also does without the WAL itself. What a process that was killed left there may revoke a key, so a file with
        such a rest is not read without it.
        """
        rest = self.path.with_name(self.path.name + "-wal")
        complete = not rest.exists() or rest.stat().st_size == 0
        for mode in ("?mode=ro", *(["?mode=ro&immutable=1"] if complete else [])):
            try:
                self._connect(mode)
                self._number("version")
            except (OSError, sqlite3.Error):
                self.close()
            else:
                self._read_only = True
                return
        raise AccessStoreError(
            f"the key store {self.path} cannot be opened: {reason}. Make room on its disk, or choose another place "
            f"with --store, such as sqlite:///folder/access.sqlite3, on a disk of this machine"
        ) from reason

    def _connect(self, mode: str) -> None:
        # autocommit: transactions are ours to begin; one thread at a time uses it, the executor's
        self._connection = connection = sqlite3.connect(
            self.path.as_uri() + mode, uri=True, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA busy_timeout = {_PATIENT_MS}")

    def _prepare(self) -> None:
        connection = self._opened
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            with self._transaction(durable=True):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?), ('seq', 0)", (_VERSION,))

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise AccessStoreError(f"the key store {self.path} is not open")
        return self._connection

    def _number(self, name: str) -> int:
        row = self._opened.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        if self._read_only:  # perhaps it can be written by now
            self.close()
            self.open()
        connection = self._opened
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute(f"PRAGMA busy_timeout = {_PATIENT_MS if durable else _HURRIED_MS}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _next(self) -> int:
        row = self._opened.execute("UPDATE meta SET value = value + 1 WHERE name = 'seq' RETURNING value").fetchone()
        return int(row[0])

    def keys(self) -> list[KeyRecord]:
        """All keys, oldest first."""
        rows = self._opened.execute("SELECT record FROM keys ORDER BY created_at, id")
        return [decode(text) for (text,) in rows]

    def add(self, record: KeyRecord) -> None:
        """Keep a new key; raises :class:`ConfigError` if its id is taken."""
        values = (record.id, encode(record).decode(), record.created_at)
        try:
            with self._transaction(durable=True):
                self._opened.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (*values, self._next()))
        except sqlite3.IntegrityError as error:
            raise ConfigError(f"there is a key {record.id} already") from error

    def change(self, key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        """Change a key in one transaction; raises ``KeyError``."""
        with self._transaction(durable=True):
            row = self._opened.execute("SELECT record FROM keys WHERE id = ?", (key_id,)).fetchone()
            if row is None:
                raise KeyError(key_id)
            record = change(decode(row[0]))
            self._opened.execute(
                "UPDATE keys SET record = ?, seq = ? WHERE id = ?", (encode(record).decode(), self._next(), key_id)
            )
        return record

    def usage(self, first: int, last: int) -> list[UsageRow]:
        """Usage of some days."""
        query = "SELECT * FROM usage WHERE day BETWEEN ? AND ? ORDER BY day, key_id, model"
        return [UsageRow(*row) for row in self._opened.execute(query, (first, last))]

    def write(self, usage: list[UsageRow], taken: list[Taken], now: float, today: int) -> None:
        """Add counts, all of them or none."""
        with self._transaction(durable=False):
            seq = self._next()
            connection = self._opened
            connection.executemany(_ADD_USAGE, usage)
            totals = ((day, key, rows, tokens, seq) for key, _, days in taken for day, rows, tokens in days)
            connection.executemany(_ADD_TAKEN, totals)
            requests = [(seq, self._process, key, count, now) for key, count, _ in taken if count]
            connection.executemany("INSERT INTO recent VALUES (?, ?, ?, ?, ?)", requests)
            # those of the future were written before the clock was set back
            kept = (now - 2 * WINDOW_SECONDS, now + WINDOW_SECONDS)
            connection.execute("DELETE FROM recent WHERE at NOT BETWEEN ? AND ?", kept)
            if today != self._tidied:
                self._keep_days("usage", self._keep_usage_days)
                self._keep_days("taken", KEEP_TAKEN_DAYS)
                self._tidied = today

    def _keep_days(self, table: str, count: int) -> None:
        """Delete what is older than the newest ``count`` days that have rows.

        Days of the calendar would not do: a clock that is far ahead for a moment would delete everything.
        """
        days = self._opened.execute(f"SELECT day FROM {table} GROUP BY day ORDER BY day DESC").fetchall()  # noqa: S608
        if len(days) > count:
            self._opened.execute(f"DELETE FROM {table} WHERE day <= ?", days[count])  # noqa: S608

    def news(self, now: float, today: int) -> News:
        """What others wrote since the last time; everything that counts, the first time."""
        connection = self._opened
        seen, day = self._seen, self._day
        connection.execute("BEGIN")
        try:
            seq = self._number("seq")
            if seq == seen and today == day:
                return News([], [], [])
            records = connection.execute("SELECT record FROM keys WHERE seq > ?", (seen,)).fetchall()
            taken = connection.execute(
                "SELECT day, key_id, rows, tokens FROM taken WHERE day = ? AND seq > ?",
                (today, seen if today == day else -1),
            ).fetchall()
            requests = connection.execute(
                "SELECT key_id, SUM(requests) FROM recent "
                "WHERE seq > ? AND process <> ? AND at BETWEEN ? AND ? GROUP BY key_id",
                (seen, self._process, now - WINDOW_SECONDS, now + WINDOW_SECONDS),
            ).fetchall()
        finally:
            connection.execute("COMMIT")
        self._seen, self._day = seq, today
        return News([decode(text) for (text,) in records], taken, requests)

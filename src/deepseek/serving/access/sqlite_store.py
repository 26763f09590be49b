"""Keys and counts in one SQLite file, limits in the process: the default.

Requests never wait for the disk: they count in memory, and one thread stores that twice a second and at the end. So a
killed process loses what it counted in its last second at most. A disk that is full, read-only or locked stops nothing:
the log says so once, counts stay in memory, and are stored when it works again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from deepseek.serving.access.account import Account
from deepseek.serving.access.clock import Clock, day_number
from deepseek.serving.access.keys import KeyRecord
from deepseek.serving.access.ledger import Ledger, UsageRow
from deepseek.serving.access.limiter import LocalLimiter
from deepseek.serving.access.sqlite_file import SqliteFile
from deepseek.serving.access.store import AccessStore, AccessStoreError, Changes, Outage

T = TypeVar("T")


class SqliteStore(AccessStore):
    """The store in the file at ``path``; use :func:`deepseek.serving.access.store.open_store`."""

    needs_contact = False

    def __init__(self, path: str, clock: Clock, keep_usage_days: int) -> None:
        self._clock = clock
        self.ledger = Ledger(day_number(clock.wall()))
        self._limiter = LocalLimiter(clock)
        self._file = SqliteFile(Path(path).expanduser().absolute(), keep_usage_days)
        self.name = str(self._file.path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="deepseek-access")
        self._syncing = asyncio.Lock()
        self._outage = Outage(
            f"the key store {self._file.path}", "Requests are served, counts are kept in memory and stored later"
        )

    async def open(self) -> None:
        """See :meth:`AccessStore.open`."""
        try:
            await self._run(self._file.open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    async def close(self) -> None:
        """See :meth:`AccessStore.close`."""
        await self.sync()
        self._outage.lost()
        await self._run(self._file.close)
        self._thread.shutdown()

    async def keys(self) -> list[KeyRecord]:
        """See :meth:`AccessStore.keys`."""
        return await self._run(self._file.keys)

    async def add(self, record: KeyRecord) -> None:
        """See :meth:`AccessStore.add`."""
        await self._run(lambda: self._file.add(record))

    async def change(self, key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        """See :meth:`AccessStore.change`."""
        return await self._run(lambda: self._file.change(key_id, change))

    async def usage(self, first: int, last: int) -> list[UsageRow]:
        """See :meth:`AccessStore.usage`."""
        return await self._run(lambda: self._file.usage(first, last))

    def account(self, key_id: str) -> Account:
        """See :meth:`AccessStore.account`."""
        return self._limiter.account(key_id)

    def admit(self, account: Account, rows: int) -> None:
        """See :meth:`AccessStore.admit`; never waits."""
        self._limiter.admit(account, rows)

    def spend(self, account: Account, tokens: int) -> None:
        """See :meth:`AccessStore.spend`."""
        self._limiter.spend(account, tokens)

    async def sync(self) -> Changes:
        """See :meth:`AccessStore.sync`; never raises."""
        async with self._syncing:  # or totals would be learned without what another one is just storing
            usage, taken = self.ledger.take(), self._limiter.take()
            now = self._clock.wall()
            today = day_number(now)
            try:
                if usage or taken:
                    await self._run(lambda: self._file.write(usage, taken, now, today))
                    self._outage.works()
            except AccessStoreError as error:
                self._outage.fails(error)
                self.ledger.put_back(usage)
                self._limiter.put_back(taken)
            try:
                news = await self._run(lambda: self._file.news(now, today))
            except AccessStoreError as error:
                self._outage.fails(error)
                return Changes([])
            for day, key_id, rows, tokens in news.taken:
                self._limiter.learn(day, key_id, rows, tokens)
            for key_id, requests in news.requests:
                self._limiter.learn_requests(key_id, requests)
            return Changes(news.records)

    async def _run(self, work: Callable[[], T]) -> T:
        """Run in the file's thread; raises :class:`AccessStoreError` for what SQLite raises."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, msgspec.MsgspecError, OSError) as error:
            if isinstance(error, AccessStoreError):
                raise
            raise AccessStoreError(f"{self._file.path}: {error}") from error

"""Where keys and counts live: one contract, two stores.

====================  ==============================================  =============================================
                      SQLite (:mod:`.sqlite_store`)                   Redis (:mod:`.redis_store`)
====================  ==============================================  =============================================
for                   one machine; nothing to install                 fleets
limits are decided    in the process, at once                         in Redis, many waiting requests a round trip
several processes     learn of each other twice a second: together    exact: together never above a limit
                      they may pass a limit by what comes meanwhile
store gone            served from memory, stored later                refused (or let through, ``fail_open``)
====================  ==============================================  =============================================

Everything but the file and network work runs on the event loop.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from deepseek.errors import ConfigError
from deepseek.serving.access.account import Account
from deepseek.serving.access.clock import Clock
from deepseek.serving.access.keys import KeyRecord
from deepseek.serving.access.ledger import Ledger, UsageRow
from deepseek.serving.errors import NotReadyError

logger = logging.getLogger("deepseek.serving")

KEEP_TAKEN_DAYS = 8
"""Days for which stores keep what was taken of daily limits: as far as a clock may be set back without new quota."""


class AccessStoreError(NotReadyError, OSError):
    """The store of keys and counts cannot be opened, reached, read or written."""


class Changes(NamedTuple):
    """Keys that changed since the last :meth:`AccessStore.sync`."""

    records: list[KeyRecord]
    complete: bool = False
    """Whether ``records`` are all keys there are, and others are gone."""


class Outage:
    """Tells the log once that a store fails, and once that it works again."""

    def __init__(self, what: str, consequence: str) -> None:
        self._what, self._consequence = what, consequence
        self.lasting = False

    def fails(self, reason: object) -> None:
        """It does not work."""
        if not self.lasting:
            self.lasting = True
            logger.error("%s does not work: %s. %s", self._what, reason, self._consequence)

    def lost(self) -> None:
        """It did not work to the end."""
        if self.lasting:
            logger.error("%s still does not work at the end: counts that waited for it are lost", self._what)

    def works(self) -> None:
        """It works."""
        if self.lasting:
            self.lasting = False
            logger.warning("%s works again", self._what)


class AccessStore(ABC):
    """Keys, what was taken of their limits, and usage.

    A command opens a store, calls the methods on keys and usage, and closes it; a server also calls the others.
    """

    ledger: Ledger
    """Usage that waits to be stored."""
    name: str
    """Where it is, without passwords."""
    needs_contact: bool
    """Whether nobody may be let in while the store does not answer."""

    @abstractmethod
    async def open(self) -> None:
        """Open it, and make it if it is not there; raises :class:`AccessStoreError`."""

    @abstractmethod
    async def close(self) -> None:
        """Store what waits, as far as possible, and close."""

    @abstractmethod
    async def keys(self) -> list[KeyRecord]:
        """All keys, oldest first; raises :class:`AccessStoreError`, as all methods on keys and usage."""

    @abstractmethod
    async def add(self, record: KeyRecord) -> None:
        """Keep a new key; durable when this returns. Raises :class:`ConfigError` if its id is taken."""

    @abstractmethod
    async def change(self, key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        """Change a key in one step, whoever else does so; durable when this returns the new record.

        Raises ``KeyError`` if there is no such key; what ``change`` raises leaves the key as it is.
        """

    @abstractmethod
    async def usage(self, first: int, last: int) -> list[UsageRow]:
        """Usage of the days ``first`` to ``last`` (days since 1970-01-01), sorted by day, key and model."""

    @abstractmethod
    def account(self, key_id: str) -> Account:
        """The account of a key; the same one each time."""

    @abstractmethod
    def admit(self, account: Account, rows: int) -> Awaitable[None] | None:
        """Take a request of ``rows`` inferences from the account's limits, now or after a round trip.

        Raises :class:`LimitExceededError`; with a store that needs contact, ``NotReadyError``.
        """

    @abstractmethod
    def spend(self, account: Account, tokens: int) -> None:
        """Note that tokens of an answer are in the ledger, to be taken from the account's limits."""

    @abstractmethod
    async def sync(self) -> Changes:
        """Store what waits, and learn what others changed.

        Raises :class:`AccessStoreError` from a store that needs contact; another one keeps what waits.
        """


def open_store(
    address: str, clock: Clock | None = None, *, fail_open: bool = False, keep_usage_days: int = 400
) -> AccessStore:
    """The store at ``sqlite:///path``, a plain path, ``redis://``, ``rediss://`` or ``unix://``; not opened yet.

    Raises :class:`ConfigError` for another address.
    """
    clock = clock or Clock()
    scheme, found, rest = address.partition("://")
    if not found or scheme == "sqlite":
        from deepseek.serving.access.sqlite_store import SqliteStore

        path = rest.removeprefix("/") if found else address
        if not path or path == ":memory:" or (found and not rest.startswith("/")):
            raise ConfigError(f"expected a store like sqlite:///folder/access.sqlite3, received {address!r}")
        return SqliteStore(path, clock, keep_usage_days)
    if scheme in {"redis", "rediss", "unix"}:
        from deepseek.serving.access.redis_store import RedisStore

        return RedisStore(address, clock, fail_open=fail_open, keep_usage_days=keep_usage_days)
    raise ConfigError(
        f"expected a store like sqlite:///path, redis://host:6379/0, rediss://... (TLS) or unix:///path/to.sock, "
        f"received one with the scheme {scheme!r}"
    )

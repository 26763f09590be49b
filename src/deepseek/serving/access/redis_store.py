"""Keys and counts in Redis, limits exact across all replicas: for fleets.

A replica holds all keys in memory, as with every store, and asks twice a second whether any changed: each change gets a
number from one counter, and a replica reads what is beyond the last number it saw. A Redis that lost its data (it was
emptied, or restarted without persistence) has another ``epoch``, and all keys are read again.

Redis should be durable (``appendonly yes``), must not evict (``maxmemory-policy noeviction``), and all keys of access
control lie in one slot of a cluster: one node decides. A request costs that node
9 microseconds if every one in a batch has another key, 1 if they share one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from deepseek.errors import ConfigError, require
from deepseek.serving.access.account import Account
from deepseek.serving.access.clock import DAY_SECONDS, Clock, day_number
from deepseek.serving.access.keys import KeyRecord, decode, encode
from deepseek.serving.access.ledger import Ledger, UsageRow
from deepseek.serving.access.redis_limiter import RedisLimiter
from deepseek.serving.access.redis_script import SAVE, SCRIPT
from deepseek.serving.access.store import AccessStore, AccessStoreError, Changes, Outage

T = TypeVar("T")

PREFIX = "{deepseek:access}"
TIMEOUT_SECONDS = 1.0
_TRIES = 100


class RedisStore(AccessStore):
    """The store in a Redis server; use :func:`deepseek.serving.access.store.open_store`."""

    def __init__(self, address: str, clock: Clock, *, fail_open: bool, keep_usage_days: int) -> None:
        redis = require("redis.asyncio", "redis")
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self.needs_contact = not fail_open
        self.ledger = Ledger(day_number(clock.wall()))
        self.name = re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", address))
        self._errors = (redis.RedisError, OSError, TimeoutError)
        self._refused = (redis.AuthenticationError,)
        try:
            self._client = redis.Redis.from_url(
                address,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                health_check_interval=30,
                # once, for a connection that was closed while it lay idle; one that does not answer has had its time
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            )
        except ValueError as error:
            raise ConfigError(
                f"{self.name}: expected redis://[user:password@]host:port/db, rediss://... for TLS or "
                f"unix:///path/to.sock?db=0 ({error})"
            ) from error
        self._script = self._client.register_script(SCRIPT)
        self._save = self._client.register_script(SAVE)
        consequence = "let through uncounted" if fail_open else "refused"
        self._outage = Outage(f"Redis at {self.name}", f"Requests of keys with limits are {consequence} until then")
        self._limiter = RedisLimiter(
            self._decide,
            self.ledger,
            self._outage,
            fail_open=fail_open,
            keep_usage_seconds=keep_usage_days * DAY_SECONDS,
        )
        self._epoch = b""
        self._seen = 0

    async def open(self) -> None:
        """See :meth:`AccessStore.open`."""
        try:
            await self._ask(self._client.ping())
        except AccessStoreError:
            await self._client.aclose()
            raise

    async def close(self) -> None:
        """See :meth:`AccessStore.close`."""
        await self._limiter.settle()
        try:
            await self._limiter.store()
        except AccessStoreError as error:
            self._outage.fails(error)
            self._outage.lost()
        await self._client.aclose()

    async def keys(self) -> list[KeyRecord]:
        """See :meth:`AccessStore.keys`."""
        found = [self._record(text) for text in await self._ask(self._client.hvals(f"{PREFIX}:keys"))]
        return sorted(found, key=lambda record: (record.created_at, record.id))

    async def add(self, record: KeyRecord) -> None:
        """See :meth:`AccessStore.add`."""
        if not await self._replace(record.id, b"", record):
            raise ConfigError(f"there is a key {record.id} already")

    async def change(self, key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        """See :meth:`AccessStore.change`."""
        for _ in range(_TRIES):
            before = await self._ask(self._client.hget(f"{PREFIX}:keys", key_id))
            if before is None:
                raise KeyError(key_id)
            record = change(self._record(before))
            if await self._replace(key_id, before, record):
                return record
        raise AccessStoreError(f"key {key_id} was changed by others {_TRIES} times while it was to be changed here")

    async def usage(self, first: int, last: int) -> list[UsageRow]:
        """See :meth:`AccessStore.usage`."""
        found = []
        for day in range(first, last + 1):
            for field, value in sorted((await self._ask(self._client.hgetall(f"{PREFIX}:u:{day}"))).items()):
                found.append(UsageRow(day, *field.decode().split(" ", 1), *map(int, value.split())))
        return found

    def account(self, key_id: str) -> Account:
        """See :meth:`AccessStore.account`."""
        return self._limiter.account(key_id)

    def admit(self, account: Account, rows: int) -> Awaitable[None] | None:
        """See :meth:`AccessStore.admit`."""
        return self._limiter.admit(account, rows)

    def spend(self, account: Account, tokens: int) -> None:
        """See :meth:`AccessStore.spend`."""
        self._limiter.spend(account, tokens)

    async def sync(self) -> Changes:
        """See :meth:`AccessStore.sync`."""
        try:
            if self._outage.lasting:  # it may answer, but take no writes: full, or a read-only replica
                await self._ask(self._client.set(f"{PREFIX}:alive", b"1", ex=60))
            await self._limiter.store()
            changes = await self._changes()
        except AccessStoreError as error:
            self._outage.fails(error)
            raise
        self._outage.works()
        return changes

    async def _changes(self) -> Changes:
        epoch, number = await self._ask(self._client.mget(f"{PREFIX}:epoch", f"{PREFIX}:seq"))
        if epoch is None:
            await self._ask(self._client.set(f"{PREFIX}:epoch", secrets.token_hex(8), nx=True))
            epoch = await self._ask(self._client.get(f"{PREFIX}:epoch"))
        seen = int(number or 0)
        if epoch != self._epoch or seen < self._seen:
            changes = Changes(await self.keys(), complete=True)
        elif seen > self._seen:
            ids = await self._ask(self._client.zrangebyscore(f"{PREFIX}:changed", f"({self._seen}", "+inf"))
            texts = await self._ask(self._client.hmget(f"{PREFIX}:keys", ids)) if ids else []
            changes = Changes([self._record(text) for text in texts if text is not None])
        else:
            return Changes([])
        self._epoch, self._seen = epoch, seen
        return changes

    async def _replace(self, key_id: str, before: bytes, record: KeyRecord) -> bool:
        places = [f"{PREFIX}:keys", f"{PREFIX}:changed", f"{PREFIX}:seq"]
        return bool(await self._ask(self._save(keys=places, args=[key_id, before, encode(record)])))

    def _record(self, text: bytes) -> KeyRecord:
        try:
            return decode(text)
        except msgspec.MsgspecError as error:
            raise AccessStoreError(f"Redis at {self.name} has a damaged key record: {error}") from error

    async def _decide(self, message: bytes) -> bytes:
        return await self._ask(self._script(keys=[PREFIX], args=[message]))  # type: ignore[no-any-return]

    async def _ask(self, answer: Awaitable[Any]) -> Any:
        """Wait for an answer; raises :class:`AccessStoreError` for what the client raises."""
        try:
            return await answer
        except self._refused as error:
            raise AccessStoreError(
                f"Redis at {self.name} refused the user or password ({error}); give them in the URL: "
                f"redis://user:password@host:port/db"
            ) from error
        except self._errors as error:
            reason = str(error) or type(error).__name__
            raise AccessStoreError(
                f"Redis at {self.name} does not answer as expected ({reason}). Is the server running, and is the "
                f"address right? TLS needs rediss://, a socket unix:///path."
            ) from error

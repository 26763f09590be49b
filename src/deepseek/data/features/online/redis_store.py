"""The online store in Redis, for fleets: many servers read, any machine writes.

A record is one string under ``PREFIX:{view@version}:r:KEY``; reads are one ``MGET``, see
:mod:`deepseek.data.features.online.redis_reads`. Writes go through a Lua script that compares inside the server, so
that of two writers the newer row wins whatever the order of their commands, and that checks the space's state first,
so that an overtaken writer changes nothing. The braces put a space into one slot of a Redis Cluster. ``expire`` gives
keys a time to live from their last change on, to bound memory; it should be at least the ttl of the view, or rows
vanish online that are still valid offline.

Durability is the server's: with its default snapshots, a crash of the server loses the last writes together with
the state written after them, or the state alone; the next materialisation writes them again."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NoReturn

from deepseek.data.features.online.redis_reads import RedisReads
from deepseek.data.features.online.redis_scripts import ADVANCE, MERGE
from deepseek.data.features.online.store import KeyRecord, OnlineStore, Record, Space, StaleWriteError, State
from deepseek.errors import ConfigError, OnlineStoreError, require

_CHUNK_RECORDS = 1000
_CHUNK_BYTES = 4 << 20
_PIPELINE = 8  # chunks in one round trip
_SCAN = 2000


class RedisStore(OnlineStore):
    """The online store in a Redis server; use :func:`deepseek.data.features.online.open_online_store`."""

    remote: ClassVar[bool] = True

    def __init__(self, address: str, expire: dt.timedelta | None, prefix: str, timeout: float) -> None:
        self._redis = require("redis", "redis")
        self._address = address
        self._expire_ms = int(expire / dt.timedelta(milliseconds=1)) if expire else 0
        self._prefix = prefix
        try:
            self._client = self._redis.Redis.from_url(
                address, socket_timeout=timeout, socket_connect_timeout=timeout, health_check_interval=30
            )
        except ValueError as error:
            raise ConfigError(
                f"{self.address}: expected redis://[user:password@]host:port/db, rediss://... for TLS or "
                f"unix:///path/to.sock?db=0 ({error})"
            ) from error
        self._reads = RedisReads(self._client.connection_pool, (self._redis.RedisError, OSError))
        self._places: dict[Space, bytes] = {}  # what the keys of a space's records begin with
        self._merge = self._client.register_script(MERGE)
        self._advance = self._client.register_script(ADVANCE)

    @classmethod
    def open(
        cls,
        address: str,
        *,
        expire: dt.timedelta | None = None,
        prefix: str = "deepseek",
        timeout: float = 5.0,
        **unknown: Any,
    ) -> RedisStore:
        """Connect to the server at ``address`` and check that it answers.

        Args:
            expire: keys vanish this long after their last change; never by default.
            prefix: what all keys begin with, for several feature stores in one database.
            timeout: seconds to wait for the server.

        Raises:
            OnlineStoreError: the server cannot be reached, or refuses the user or password.
            MissingExtraError: the client library is not installed.
        """
        if unknown:
            raise ConfigError(
                f"the Redis online store has no option {next(iter(unknown))!r}; it has: expire, prefix, timeout"
            )
        if expire is not None and expire <= dt.timedelta(0):
            raise ConfigError(f"expire: expected a time above zero, received {expire}")
        store = cls(address, expire, prefix, timeout)
        try:
            store._client.ping()
        except store._redis.RedisError as error:
            store._fail(error)
        return store

    @property
    def address(self) -> str:
        """The URL without its password."""
        hidden = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", self._address)
        return re.sub(r"(password=)[^&]*", r"\1***", hidden)

    def read(self, space: Space, keys: Sequence[bytes]) -> list[Record | None]:
        """See :meth:`OnlineStore.read`."""
        if not keys:
            return []
        prefix = self._places.get(space)
        if prefix is None:
            prefix = self._places[space] = self._place(space, b"r:")
        values = self._reads.mget(prefix, keys)
        if values is not None:
            return values
        try:
            return self._client.mget([prefix + key for key in keys])  # type: ignore[no-any-return]
        except self._redis.RedisError as error:
            self._fail(error)

    def write(
        self,
        space: Space,
        records: Sequence[KeyRecord],
        *,
        remove: Sequence[bytes] = (),
        state: State | None = None,
    ) -> int:
        """See :meth:`OnlineStore.write`; in chunks, each of them atomic, then the state."""
        expected = state.sequence - 1 if state else -1
        changed = 0
        try:
            pipeline = self._client.pipeline(transaction=False)
            for removed, chunk in _chunks(remove, records):
                self._queue(pipeline, space, expected, removed, chunk)
                if len(pipeline) >= _PIPELINE:
                    changed += self._run(pipeline, space, expected)
            changed += self._run(pipeline, space, expected)
            self._note(space, state)
        except self._redis.RedisError as error:
            self._fail(error)
        return changed

    def sweep(self, space: Space, below: bytes, *, state: State | None = None) -> int:
        """See :meth:`OnlineStore.sweep`; walks over the database's keys, so it costs its size, not the space's."""
        expected = state.sequence - 1 if state else -1
        prefix = self._place(space, b"r:")
        removed = 0
        try:
            for places in self._scan(space):
                pipeline = self._client.pipeline(transaction=False)
                for place in places:
                    pipeline.getrange(place, 0, len(below) - 1)
                heads = pipeline.execute()
                doomed = [
                    place[len(prefix) :] for place, head in zip(places, heads, strict=True) if head and head < below
                ]
                for part, _ in _chunks(doomed, ()):
                    self._queue(pipeline, space, expected, part, [])
                removed += self._run(pipeline, space, expected)
            self._note(space, state)
        except self._redis.RedisError as error:
            self._fail(error)
        return removed

    def state(self, space: Space) -> State | None:
        """See :meth:`OnlineStore.state`."""
        try:
            sequence, progress = self._client.hmget(self._place(space, b"state"), ["sequence", "progress"])
        except self._redis.RedisError as error:
            self._fail(error)
        return State(int(sequence), progress) if sequence is not None else None

    def records(self, space: Space) -> Iterator[KeyRecord]:
        """See :meth:`OnlineStore.records`."""
        prefix = self._place(space, b"r:")
        try:
            for places in self._scan(space):
                for place, record in zip(places, self._client.mget(places), strict=True):
                    if record is not None:
                        yield place[len(prefix) :], record
        except self._redis.RedisError as error:
            self._fail(error)

    def spaces(self) -> list[Space]:
        """See :meth:`OnlineStore.spaces`."""
        try:
            names = self._client.smembers(self._spaces)
        except self._redis.RedisError as error:
            self._fail(error)
        parts = [name.decode().rpartition("@") for name in names]
        return sorted(Space(view, int(version)) for view, _, version in parts)

    def clear(self, space: Space) -> None:
        """See :meth:`OnlineStore.clear`; the state goes first, so that what a killed one leaves is no store."""
        try:
            self._client.unlink(self._place(space, b"state"))
            for places in self._scan(space):
                self._client.unlink(*places)
            self._client.srem(self._spaces, str(space))
        except self._redis.RedisError as error:
            self._fail(error)

    def close(self) -> None:
        """See :meth:`OnlineStore.close`."""
        self._reads.close()
        self._client.close()

    @property
    def _spaces(self) -> bytes:
        return f"{self._prefix}:spaces".encode()

    def _place(self, space: Space, rest: bytes) -> bytes:
        return f"{self._prefix}:{{{space}}}:".encode() + rest

    def _scan(self, space: Space) -> Iterator[list[bytes]]:
        pattern = re.sub(rb"([\\*?\[\]^])", rb"\\\1", self._place(space, b"r:")) + b"*"
        cursor = 0
        while True:
            cursor, places = self._client.scan(cursor, match=pattern, count=_SCAN)
            if places:
                yield places
            if cursor == 0:
                return

    def _queue(
        self, pipeline: Any, space: Space, expected: int, remove: Sequence[bytes], chunk: Sequence[KeyRecord]
    ) -> None:
        prefix = self._place(space, b"r:")
        keys = [self._place(space, b"state"), *(prefix + key for key in remove), *(prefix + key for key, _ in chunk)]
        arguments = [expected, self._expire_ms, len(remove), *(record for _, record in chunk)]
        self._merge(keys=keys, args=arguments, client=pipeline)

    def _run(self, pipeline: Any, space: Space, expected: int) -> int:
        results = pipeline.execute()
        for result in results:
            if result < 0:
                raise StaleWriteError(space, expected, -1 - result)
        return sum(results)

    def _note(self, space: Space, state: State | None) -> None:
        keys = [self._place(space, b"state"), self._spaces]
        expected, sequence, progress = (state.sequence - 1, state.sequence, state.progress) if state else (-1, 0, b"")
        result = self._advance(keys=keys, args=[expected, sequence, progress, str(space)])
        if result < 0:
            raise StaleWriteError(space, expected, -1 - result)

    def _fail(self, error: Exception) -> NoReturn:
        errors = self._redis.exceptions
        if isinstance(error, errors.AuthenticationError | errors.AuthorizationError | errors.NoPermissionError):
            raise OnlineStoreError(
                f"Redis at {self.address} refused the user or password ({error}); give them in the URL: "
                f"redis://user:password@host:port/db"
            ) from error
        if isinstance(error, errors.OutOfMemoryError):
            raise OnlineStoreError(
                f"Redis at {self.address} is out of memory (maxmemory): raise its limit, or give keys a time to live "
                f"with expire= ({error})"
            ) from error
        if isinstance(error, errors.ConnectionError | errors.TimeoutError):
            raise OnlineStoreError(
                f"Redis at {self.address} does not answer ({error}). Is the server running, and is the address right? "
                f"TLS needs rediss://, a socket unix:///path."
            ) from error
        raise OnlineStoreError(f"Redis at {self.address}: {error}") from error


def _chunks(
    remove: Sequence[bytes], records: Sequence[KeyRecord]
) -> Iterator[tuple[Sequence[bytes], Sequence[KeyRecord]]]:
    """Cut removals and records into parts of bounded count and size, removals first."""
    for start in range(0, len(remove), _CHUNK_RECORDS):
        yield remove[start : start + _CHUNK_RECORDS], []
    chunk: list[KeyRecord] = []
    size = 0
    for key, record in records:
        chunk.append((key, record))
        size += len(key) + len(record)
        if len(chunk) >= _CHUNK_RECORDS or size >= _CHUNK_BYTES:
            yield [], chunk
            chunk, size = [], 0
    if chunk:
        yield [], chunk

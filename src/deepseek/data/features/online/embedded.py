"""The embedded online store: one LMDB file in a folder, shared by all processes of a machine.

Why LMDB and not SQLite: a read is a walk through a memory map, without locks and system calls, and takes half the
time; benchmarks/LOG.md has both measured side by side. Readers see one consistent snapshot and never wait for the
writer; writers wait for one another. A write is one transaction: killed at any moment, it has happened or it has not.

Layout: ``s`` + space → number of the space (4 bytes) and sequence of its state (8); ``p`` + space → progress;
``x`` + number → a space that is being removed; ``r`` + number + key → record. Keys beyond LMDB's 511 bytes are
stored under their BLAKE2b hash, with the key itself in front of the record.

The file is a sparse map: ``map_size`` is address space and the most that the store can grow to, not disk use. It
does not shrink; freed pages are used again. The folder must lie on a local disk, as LMDB needs shared memory maps."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import lmdb

from deepseek.data.features.online.lmdb_environment import acquire, release, typed
from deepseek.data.features.online.store import KeyRecord, OnlineStore, Record, Space, StaleWriteError, State
from deepseek.errors import ConfigError, OnlineStoreError

MAP_SIZE = 1 << 40
_LONGEST = 480
_CHUNK = 20_000
_NUMBER = struct.Struct(">I")
_SPACE = struct.Struct(">IQ")
_COUNTER = b"n"
_SHORT, _LONG = b"\0", b"\1"


class EmbeddedStore(OnlineStore):
    """The online store in a folder of this machine; use :func:`deepseek.data.features.online.open_online_store`."""

    remote: ClassVar[bool] = False

    def __init__(self, path: str, read_only: bool, map_size: int) -> None:
        self._path = path
        self._read_only = read_only
        self._map_size = map_size
        self._process = os.getpid()
        self._environment = acquire(path, map_size)
        self._closed = False
        if not read_only:
            self._finish_removals()

    @classmethod
    def open(cls, address: str, *, read_only: bool = False, map_size: int = MAP_SIZE, **unknown: Any) -> EmbeddedStore:
        """Open the store in the folder ``address``; it is made when it is not there, unless ``read_only``.

        Args:
            map_size: bytes of address space, and the most that the file may grow to.

        Raises:
            OnlineStoreError: the folder holds no store (``read_only``), or something else, or cannot be used.
        """
        if unknown:
            raise ConfigError(
                f"the embedded online store has no option {next(iter(unknown))!r}; it has: map_size, read_only"
            )
        path = str(Path(address.removeprefix("file://")).expanduser().absolute())
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise OnlineStoreError(f"{path} is a file; the embedded online store is a folder. Choose another path.")
        if read_only and not (folder / "data.mdb").exists():
            raise OnlineStoreError(f"there is no online store at {path}; materialise a feature view there first")
        if not read_only:
            if folder.exists() and any(folder.iterdir()) and not (folder / "data.mdb").exists():
                raise OnlineStoreError(f"{path} holds something that is not an online store. Choose another path.")
            folder.mkdir(parents=True, exist_ok=True)
        return cls(path, read_only, map_size)

    @property
    def address(self) -> str:
        """The folder."""
        return self._path

    def read(self, space: Space, keys: Sequence[bytes]) -> list[Record | None]:
        """See :meth:`OnlineStore.read`."""
        try:
            with self._opened().begin() as transaction:
                get = transaction.get
                found = get(b"s" + str(space).encode())
                if found is None:
                    return [None] * len(keys)
                short = b"r" + found[:4] + _SHORT
                return [get(short + key) if len(key) <= _LONGEST else _get_long(get, short, key) for key in keys]
        except lmdb.Error as error:
            raise typed(error, self._path) from error

    def write(
        self,
        space: Space,
        records: Sequence[KeyRecord],
        *,
        remove: Sequence[bytes] = (),
        state: State | None = None,
    ) -> int:
        """See :meth:`OnlineStore.write`; everything happens in one transaction."""
        changed = 0
        with self._begin(write=True) as transaction:
            prefix = self._prepare(transaction, space, state)
            get, put = transaction.get, transaction.put
            for key in remove:
                changed += transaction.delete(_place(prefix, key))
            for key, record in sorted(records):
                place = _place(prefix, key)
                value = record if len(key) <= _LONGEST else _NUMBER.pack(len(key)) + key + record
                old = get(place)
                if old is None or old < value:
                    put(place, value)
                    changed += 1
        return changed

    def sweep(self, space: Space, below: bytes, *, state: State | None = None) -> int:
        """See :meth:`OnlineStore.sweep`; in transactions of bounded size, the state with the last one."""
        removed = 0
        start = b""
        while True:
            with self._begin(write=True) as transaction:
                prefix = self._prepare(transaction, space, state, store=False)
                doomed, start, done = _scan(transaction, prefix, start or prefix, below)
                for place in doomed:
                    transaction.delete(place)
                removed += len(doomed)
                if done:
                    self._prepare(transaction, space, state)
                    return removed

    def state(self, space: Space) -> State | None:
        """See :meth:`OnlineStore.state`."""
        name = str(space).encode()
        with self._begin() as transaction:
            found, progress = transaction.get(b"s" + name), transaction.get(b"p" + name)
            return State(_SPACE.unpack(found)[1], progress) if found and progress is not None else None

    def records(self, space: Space) -> Iterator[KeyRecord]:
        """See :meth:`OnlineStore.records`; reads in chunks, so that no old snapshot keeps the file growing."""
        with self._begin() as transaction:
            found = transaction.get(b"s" + str(space).encode())
        if found is None:
            return
        prefix = b"r" + found[:4]
        after = prefix
        while True:
            chunk: list[KeyRecord] = []
            with self._begin() as transaction, transaction.cursor() as cursor:
                more = cursor.set_range(after)
                while more and cursor.key().startswith(prefix) and len(chunk) < _CHUNK:
                    chunk.append((cursor.key(), cursor.value()))
                    more = cursor.next()
            for place, value in chunk:
                kind, key = place[len(prefix) : len(prefix) + 1], place[len(prefix) + 1 :]
                yield (key, value) if kind == _SHORT else _unwrap(value)
            if len(chunk) < _CHUNK:
                return
            after = chunk[-1][0] + b"\0"

    def spaces(self) -> list[Space]:
        """See :meth:`OnlineStore.spaces`."""
        found = []
        with self._begin() as transaction, transaction.cursor() as cursor:
            more = cursor.set_range(b"s")
            while more and cursor.key().startswith(b"s"):
                view, _, version = cursor.key()[1:].decode().rpartition("@")
                found.append(Space(view, int(version)))
                more = cursor.next()
        return sorted(found)

    def clear(self, space: Space) -> None:
        """See :meth:`OnlineStore.clear`; readers see an empty space at once, its pages are freed after that."""
        name = str(space).encode()
        with self._begin(write=True) as transaction:
            found = transaction.pop(b"s" + name)
            transaction.delete(b"p" + name)
            if found is not None:
                transaction.put(b"x" + found[:4], b"")
        self._finish_removals()

    def close(self) -> None:
        """See :meth:`OnlineStore.close`."""
        if not self._closed:
            self._closed = True
            release(self._path, self._process)

    def _opened(self) -> Any:
        if self._closed:
            raise OnlineStoreError(f"the online store {self._path} is closed; open it again")
        if os.getpid() != self._process:  # a memory map and its locks do not survive a fork
            self._process = os.getpid()
            self._environment = acquire(self._path, self._map_size)
        return self._environment

    @contextmanager
    def _begin(self, write: bool = False) -> Iterator[Any]:
        if write and self._read_only:
            raise OnlineStoreError(f"the online store {self._path} is open for reading only; open it without read_only")
        try:
            with self._opened().begin(write=write) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise typed(error, self._path) from error

    def _prepare(self, transaction: Any, space: Space, state: State | None, store: bool = True) -> bytes:
        """Check the state, note the new one, and return what the space's keys begin with."""
        name = str(space).encode()
        found = transaction.get(b"s" + name)
        if found is None:
            number = _NUMBER.unpack(transaction.get(_COUNTER) or _NUMBER.pack(0))[0] + 1
            transaction.put(_COUNTER, _NUMBER.pack(number))
            sequence = 0
            transaction.put(b"s" + name, _SPACE.pack(number, sequence))
        else:
            number, sequence = _SPACE.unpack(found)
        if state is not None:
            if state.sequence != sequence + 1:
                raise StaleWriteError(space, state.sequence - 1, sequence)
            if store:
                transaction.put(b"s" + name, _SPACE.pack(number, state.sequence))
                transaction.put(b"p" + name, state.progress)
        return b"r" + _NUMBER.pack(number)

    def _finish_removals(self) -> None:
        """Free the records of cleared spaces, also of those whose clearing was interrupted."""
        while True:
            with self._begin() as transaction, transaction.cursor() as cursor:
                if not (cursor.set_range(b"x") and cursor.key().startswith(b"x")):
                    return
            with self._begin(write=True) as transaction:
                with transaction.cursor() as cursor:
                    if not (cursor.set_range(b"x") and cursor.key().startswith(b"x")):
                        return
                    number = cursor.key()[1:]
                doomed, _, done = _scan(transaction, b"r" + number, b"r" + number, None)
                for place in doomed:
                    transaction.delete(place)
                if done:
                    transaction.delete(b"x" + number)


def _place(prefix: bytes, key: bytes) -> bytes:
    if len(key) <= _LONGEST:
        return prefix + _SHORT + key
    return prefix + _LONG + hashlib.blake2b(key, digest_size=32).digest()


def _unwrap(value: bytes) -> KeyRecord:
    end = 4 + _NUMBER.unpack_from(value)[0]
    return value[4:end], value[end:]


def _get_long(get: Any, short: bytes, key: bytes) -> Record | None:
    value = get(_place(short[:-1], key))
    return None if value is None else _unwrap(value)[1]


def _scan(transaction: Any, prefix: bytes, start: bytes, below: bytes | None) -> tuple[list[bytes], bytes, bool]:
    """Up to a chunk of places from ``start`` on with records less than ``below``, where to go on, and if it is all."""
    doomed: list[bytes] = []
    seen = 0
    with transaction.cursor() as cursor:
        more = cursor.set_range(start)
        while more:
            place = cursor.key()
            if not place.startswith(prefix):
                return doomed, place, True
            if seen >= _CHUNK:
                return doomed, place, False
            seen += 1
            if below is None or _record(place, prefix, cursor.value()) < below:
                doomed.append(place)
            more = cursor.next()
    return doomed, start, True


def _record(place: bytes, prefix: bytes, value: bytes) -> Record:
    return value if place[len(prefix) : len(prefix) + 1] == _SHORT else _unwrap(value)[1]

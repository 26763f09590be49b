"""The fast way to the bytes of blobs on a local disk: positions from Lance, bytes straight from its files.

Lance's own reader hands each blob over as a Python object, through two copies. Here all blobs of a call are read into
one Arrow buffer, with one system call each. Where a blob lies is Lance's knowledge (its descriptor), how its files are
laid out is not promised: so before a file is used, one of its blobs is read both ways, and where the bytes differ, or
in an object store, or for kinds of storage that are not known here, Lance's reader is used (it is also the reference
in the tests).

Asking Lance for descriptors costs a millisecond a call. A table that is read at random again and again, as training
does, has them all read once and kept, 29 bytes a row, as long as they stay under ``KEPT_BYTES``.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.table import batching, location

INLINE, PACKED = 0, 1
"""Kinds of descriptors: the bytes are in the data file itself, or in a file of blobs beside it."""
OPEN_FILES = 64
THREADS = 4
_THREAD_BYTES = 8 << 20
"""Reads of fewer bytes than this are not worth a thread."""
_FRAGMENT_BITS = 33
KEPT_BYTES = 64 << 20
CALLS_BEFORE_KEEPING = 8
_BYTES_A_ROW = 29

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class _Places(NamedTuple):
    """Where blobs are, one entry a row: whether there is one, its kind, position and size, its file, its address."""

    valid: np.ndarray[Any, np.dtype[np.bool_]]
    kinds: np.ndarray[Any, np.dtype[np.uint8]]
    positions: Numbers
    sizes: Numbers
    numbers: np.ndarray[Any, np.dtype[np.uint32]]
    addresses: Numbers

    @classmethod
    def of(cls, descriptors: pa.Array, addresses: pa.Array) -> _Places:
        def field(name: str, kind: type) -> Any:
            return np.asarray(pc.fill_null(pc.struct_field(descriptors, name), 0)).astype(kind)

        valid = np.asarray(descriptors.is_valid())
        sizes = np.where(valid, field("size", np.int64), 0)
        places = (field("kind", np.uint8), field("position", np.int64), sizes, field("blob_id", np.uint32))
        return cls(valid, *places, np.asarray(addresses.cast(pa.uint64())).astype(np.int64))

    def at(self, rows: Numbers) -> _Places:
        return _Places._make(part[rows] for part in self)


class BlobReader:
    """Reads blobs of one version of a table by their descriptors; safe to use from several threads."""

    def __init__(self, dataset: Any, path: str) -> None:
        self._dataset = dataset
        local = path.removeprefix("file://")
        self._folder = None if location.is_remote(local) else Path(local) / "data"
        self._files: dict[tuple[str, int], str | None] = {}
        self._right: dict[tuple[str, int], bool] = {}
        self._open: OrderedDict[str, _File] = OrderedDict()
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._kept: dict[str, _Places | None] = {}

    def take(self, column: str, rows: Numbers) -> pa.Array | None:
        """The blobs at positions of the table; ``None`` when where they are is not kept."""
        kept = self._known(column)
        if kept is None:
            return None
        places = kept.at(rows)
        fast = self._straight(column, places)
        return self.reference(column, places.addresses) if fast is None else fast

    def _known(self, column: str) -> _Places | None:
        """Where all blobs of the column are, once it was asked for often enough to be worth it."""
        if column not in self._kept:
            self._calls[column] += 1
            if self._folder is None or self._calls[column] <= CALLS_BEFORE_KEEPING:
                return None
            found = None
            if self._dataset.count_rows() * _BYTES_A_ROW <= KEPT_BYTES:
                scanner = self._dataset.scanner(columns=[column], with_row_address=True, **batching.SCAN)
                parts = [_Places.of(batch.column(0), batch.column(1)) for batch in scanner.to_batches()]
                found = _Places._make(map(np.concatenate, zip(*parts, strict=True))) if parts else None
            self._kept[column] = found
        return self._kept[column]

    def values(self, column: str, descriptors: pa.Array, addresses: pa.Array) -> pa.Array:
        """The blobs of ``column``, as ``large_binary``, in order.

        Args:
            descriptors: what Lance returns for the column, a struct for each row.
            addresses: the rows' addresses in storage.
        """
        places = _Places.of(descriptors, addresses)
        fast = self._straight(column, places)
        return self.reference(column, places.addresses) if fast is None else fast

    def reference(self, column: str, addresses: Numbers) -> pa.Array:
        """The same through Lance's reader."""
        if not len(addresses):
            return pa.array([], pa.large_binary())
        read = self._dataset.read_blobs(
            column, addresses=addresses.tolist(), preserve_order=True, io_buffer_size=batching.BATCH_BYTES
        )
        return pa.array([value for _, value in read], pa.large_binary())

    def _straight(self, column: str, where: _Places) -> pa.Array | None:
        """The blobs from the files; ``None`` where only Lance can read them."""
        if self._folder is None or not hasattr(os, "preadv"):
            return None
        valid, kinds, positions, sizes, numbers, addresses = where
        wanted = np.flatnonzero(sizes)
        if not np.isin(kinds[wanted], (INLINE, PACKED)).all():
            return None
        # one number for each file: 0 for the fragment's data file, above it for the blob files beside that
        places = ((addresses >> 32) << _FRAGMENT_BITS) + np.where(kinds == INLINE, 0, numbers.astype(np.int64) + 1)
        work: list[tuple[str, Numbers]] = []
        for place in np.unique(places[wanted]).tolist():
            rows = wanted[places[wanted] == place]
            name = self._checked(column, place, int(addresses[rows[0]]), int(positions[rows[0]]), int(sizes[rows[0]]))
            if name is None:
                return None
            work.append((name, rows))
        offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
        np.cumsum(sizes, out=offsets[1:])
        buffer = pa.allocate_buffer(int(offsets[-1]), resizable=False)
        for name, rows in work:
            if not self._fill(name, memoryview(buffer), rows, positions, sizes, offsets):
                return None
        nulls = None if valid.all() else pa.array(valid).buffers()[1]
        return pa.Array.from_buffers(pa.large_binary(), len(sizes), [nulls, pa.py_buffer(offsets), buffer])

    def _fill(
        self, name: str, target: memoryview, rows: Numbers, positions: Numbers, sizes: Numbers, offsets: Numbers
    ) -> bool:
        """Read rows of one file to their places; ``False`` when the file is shorter than it should be."""
        order = rows[np.argsort(positions[rows], kind="stable")]
        jobs = list(zip(positions[order].tolist(), sizes[order].tolist(), offsets[order].tolist(), strict=True))
        with self._opened(name) as file:

            def read(part: list[tuple[int, int, int]]) -> bool:
                return all(_read(file, target[at : at + size], position) for position, size, at in part)

            threads = min(THREADS, int(sizes[rows].sum()) // _THREAD_BYTES, len(jobs))
            if threads < 2:
                return read(jobs)
            step = -(-len(jobs) // threads)
            parts = [jobs[start : start + step] for start in range(0, len(jobs), step)]
            with ThreadPoolExecutor(threads, thread_name_prefix="deepseek-blobs") as pool:
                return all(list(pool.map(read, parts)))

    def _checked(self, column: str, place: int, address: int, position: int, size: int) -> str | None:
        """The path of a place's file, if a blob read from it is the one that Lance reads."""
        key = (column, place)
        if key not in self._right:
            name = self._path(column, place)
            right = False
            if name is not None and Path(name).is_file():
                data = bytearray(size)
                with self._opened(name) as file:
                    complete = _read(file, memoryview(data), position)
                ((_, known),) = self._dataset.read_blobs(column, addresses=[address])
                right = complete and known == data
            self._files[key], self._right[key] = name, right
        return self._files[key] if self._right[key] else None

    def _path(self, column: str, place: int) -> str | None:
        fragment = self._dataset.get_fragment(place >> _FRAGMENT_BITS)
        number = (place & ((1 << _FRAGMENT_BITS) - 1)) - 1
        field = next(field.id() for field in self._dataset.lance_schema.fields() if field.name() == column)
        for file in fragment.data_files() if fragment is not None else ():
            if field in file.fields and getattr(file, "base_id", None) is None:
                assert self._folder is not None
                if number < 0:
                    return str(self._folder / file.path)
                return str(self._folder / file.path.removesuffix(".lance") / f"{f'{number:032b}'[::-1]}.blob")
        return None

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        with self._lock:
            file = self._open.pop(name, None) or _File(name)
            self._open[name] = file
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)  # closed when the last reader lets go of it
        yield file.number


class _File:
    """An open file that is closed with its last reference."""

    def __init__(self, name: str) -> None:
        self.number = os.open(name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        os.close(self.number)


def _read(file: int, target: memoryview, position: int) -> bool:
    while len(target):
        count = os.preadv(file, [target], position)
        if not count:
            return False
        target, position = target[count:], position + count
    return True

"""Parquet, a folder of files and a plain copy, in a process of their own."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data_parts import generate
from benchmarks.data_parts.page_cache import drop_pages, flush, load_pages
from benchmarks.worker import Clock, serve

TUNED_ROW_GROUP = 16
PARQUET_BATCH = 1024
state: dict[str, Any] = {}


def write(clock: Clock, *, path: str, count: int, seed: int) -> None:
    """Write the blobs: a folder of files, or Parquet with default settings or, when so named, tuned ones."""
    target = Path(path)
    batches = generate.blobs(count, seed)
    if target.suffix != ".parquet":
        target.mkdir()
        for batch in batches:
            for number, blob in zip(batch["id"].to_pylist(), batch["image"].to_pylist(), strict=True):
                (target / f"{number:08}.jpg").write_bytes(blob)
    elif target.stem == "tuned":
        first = next(batches)
        with pq.ParquetWriter(target, first.schema, compression="none", use_dictionary=False) as writer:
            for batch in itertools.chain([first], batches):
                writer.write_table(pa.Table.from_batches([batch]), row_group_size=TUNED_ROW_GROUP)
    else:
        pq.write_table(pa.Table.from_batches(batches), target)
    flush(target)


def open_blobs(clock: Clock, *, path: str) -> None:
    """Open what :func:`read` reads."""
    target = Path(path)
    state["path"] = target
    state["read"] = _file_reader(target) if target.is_dir() else _parquet_reader(target)


def read(clock: Clock, *, positions: list[int], batch: int, cold: bool) -> str:
    """Read the blobs at ``positions``, ``batch`` at a time, as bytes; returns their digest."""
    (drop_pages if cold else load_pages)(state["path"])
    blobs: list[bytes] = []
    with clock:
        for start in range(0, len(positions), batch):
            blobs += state["read"](positions[start : start + batch])
    return hashlib.sha256(b"".join(blobs)).hexdigest()


def copy(clock: Clock, *, source: str, target: str, durable: bool) -> None:
    """A plain copy of a file or folder; with ``durable``, it counts until the bytes are on the disk."""
    shutil.rmtree(target, ignore_errors=True)
    Path(target).unlink(missing_ok=True)
    with clock:
        if Path(source).is_dir():
            shutil.copytree(source, target, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, target)
        if durable:
            flush(Path(target))


def _file_reader(folder: Path) -> Callable[[list[int]], list[bytes]]:
    names = sorted(entry.path for entry in os.scandir(folder))

    def read_files(positions: list[int]) -> list[bytes]:
        blobs = []
        for position in positions:
            with open(names[position], "rb") as file:  # noqa: PTH123  # the fastest way that Python has
                blobs.append(file.read())
        return blobs

    return read_files


def _parquet_reader(path: Path) -> Callable[[list[int]], list[bytes]]:
    """Reads only the row groups and the column that are needed, batch by batch and memory-mapped.

    Of what pyarrow offers this was fastest, and takes megabytes where whole row groups take twice their size.
    """
    file = pq.ParquetFile(path, memory_map=True)
    groups = [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]
    starts = [0, *itertools.accumulate(groups)]

    def read_rows(positions: list[int]) -> list[bytes]:
        blobs: list[bytes] = [b""] * len(positions)
        order = sorted(range(len(positions)), key=positions.__getitem__)
        for group, members in itertools.groupby(order, lambda place: bisect.bisect_right(starts, positions[place]) - 1):
            places, first = list(members), starts[group]
            for batch in file.iter_batches(PARQUET_BATCH, row_groups=[group], columns=["image"]):
                last, column = first + batch.num_rows, batch.column(0)
                while places and positions[places[0]] < last:
                    place = places.pop(0)
                    blobs[place] = column[positions[place] - first].as_py()
                first = last
        return blobs

    return read_rows


if __name__ == "__main__":
    serve(write, open_blobs, read, copy)

"""Our side of the blob benchmarks: random reads from a table, and ingestion."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.data_parts import generate
from benchmarks.data_parts.page_cache import drop_pages, flush, load_pages
from benchmarks.worker import Clock, serve
from deepseek.data import Table, ingest

state: dict[str, Any] = {}
SCHEMA = pa.schema([("id", pa.int64()), ("image", pa.large_binary())])


def write(clock: Clock, *, path: str, count: int, seed: int) -> None:
    """Write the blobs as a table, with default settings."""
    Table.create(path, generate.blobs(count, seed), schema=SCHEMA)
    flush(Path(path))


def open_blobs(clock: Clock, *, path: str) -> None:
    """Open the table that :func:`read` reads."""
    state["table"] = Table.open(path)


def read(clock: Clock, *, positions: list[int], batch: int, cold: bool) -> str:
    """Read the blobs at ``positions``, ``batch`` at a time, as buffers; returns their digest."""
    table = state["table"]
    (drop_pages if cold else load_pages)(Path(table.path))
    blobs: list[pa.Buffer] = []
    with clock:
        for start in range(0, len(positions), batch):
            taken = table.take(positions[start : start + batch], ["image"]).column("image")
            blobs += [value.as_buffer() for value in taken]
    return hashlib.sha256(b"".join(blobs)).hexdigest()


def ingest_into(clock: Clock, *, source: str, target: str, durable: bool) -> int:
    """Ingest a file or folder as a new table; with ``durable``, it counts until the bytes are on the disk."""
    shutil.rmtree(target, ignore_errors=True)
    with clock:
        report = ingest(source, target)
        if durable:
            flush(Path(target))
    assert report.rejected == 0, report
    return report.rows


if __name__ == "__main__":
    serve(write, open_blobs, read, ingest_into)

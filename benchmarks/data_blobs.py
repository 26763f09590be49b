"""Random reads of 1,000 blobs: a table beside a Parquet file and a folder of files, on the same bytes.

All columns hold the same random values of 4 to 100 kB. Each of the readers returns the same bytes in the order asked,
and what it returns is checked. Three ways of asking, since they differ by orders of magnitude:

- ``bulk``: all 1,000 positions in one call. The Parquet reader then reads each row group once, which favours it:
  at this density nearly every group has a wanted row.
- ``batches``: 32 positions at a time, as a training loop asks. Every batch reads the row groups of its own rows.
- ``single``: one position at a time, as a lookup asks.

Parquet is read as a careful user would: with the writer's defaults, only the blob column, only the groups that hold
wanted rows (``ParquetFile.read_row_group(..., columns=...)``), each group once a call. ``parquet_small_groups`` is the
same with groups of 1,000 rows, which a user who knows of this use would choose. Slow readers are asked for fewer
batches or rows, and the time is scaled. Every reader has been run once before (warm cache); repetitions alternate.

Run: ``python benchmarks/data_blobs.py [--rows 20000] [--folder DIR] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepseek import progress
from deepseek.data import Table

SCHEMA = pa.schema([("id", pa.int64()), ("blob", pa.large_binary())])
WANTED = 1000
Reader = Callable[[list[int]], list[bytes]]


def batches(rows: int) -> Iterator[pa.RecordBatch]:
    """The data: sizes uniform in 4 to 100 kB."""
    generator = np.random.default_rng(0)
    for start in range(0, rows, 200):
        sizes = generator.integers(4_000, 100_000, min(200, rows - start))
        values = [generator.bytes(int(size)) for size in sizes]
        yield pa.record_batch(
            [pa.array(range(start, start + len(values))), pa.array(values, SCHEMA[1].type)], SCHEMA.names
        )


def parquet_reader(path: Path) -> Reader:
    """Read the row groups that hold the positions, each once."""
    file = pq.ParquetFile(path)
    starts = np.cumsum([0, *(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))])

    def read(places: list[int]) -> list[bytes]:
        groups = np.searchsorted(starts, places, side="right") - 1
        found: dict[int, bytes] = {}
        for group in np.unique(groups).tolist():
            column = file.read_row_group(group, columns=["blob"])["blob"]
            for place in (p for p, g in zip(places, groups, strict=True) if g == group):
                found[place] = column[place - int(starts[group])].as_py()
        return [found[place] for place in places]

    return read


def readers(folder: Path, rows: int) -> dict[str, Reader]:
    """Write the data in each form; returns how each is read."""
    table = Table.create(folder / "table.lance", batches(rows), schema=SCHEMA)
    plain = Table.create(folder / "plain.lance", batches(rows), schema=SCHEMA, blobs=[])
    everything = pa.Table.from_batches(batches(rows))
    pq.write_table(everything, folder / "default.parquet")
    pq.write_table(everything, folder / "small.parquet", row_group_size=1000)
    del everything
    files = folder / "files"
    files.mkdir()
    for batch in batches(rows):
        for row in batch.to_pylist():
            (files / str(row["id"])).write_bytes(row["blob"])
    return {
        "table": lambda places: table.take(places, ["blob"])["blob"].to_pylist(),
        "plain_column": lambda places: plain.take(places, ["blob"])["blob"].to_pylist(),
        "files": lambda places: [(files / str(place)).read_bytes() for place in places],
        "parquet": parquet_reader(folder / "default.parquet"),
        "parquet_small_groups": parquet_reader(folder / "small.parquet"),
    }


def seconds(read: Reader, places: list[int], size: int, repetition: int) -> float:
    """Time for all ``places`` in calls of ``size``; slow readers are asked for a part, and the time is scaled."""
    calls = [places[start : start + size] for start in range(0, len(places), size)]
    done = 0
    started = time.perf_counter()
    for call in calls[repetition:] + calls[:repetition]:
        read(call)
        done += len(call)
        if time.perf_counter() - started > 4:
            break
    return (time.perf_counter() - started) * len(places) / done


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write the data (default: a temporary folder)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, progress.quiet():
        ways = readers(Path(folder), arguments.rows)
        places = np.random.default_rng(1).choice(arguments.rows, WANTED, replace=False).tolist()
        expected = ways["files"](places)
        for name, read in ways.items():
            assert read(places) == expected, name
        figures: dict[str, dict[str, float]] = {}
        for asked, size in {"bulk": WANTED, "batches": 32, "single": 1}.items():
            times: dict[str, list[float]] = {name: [] for name in ways}
            for repetition in range(arguments.repetitions):
                for name, read in ways.items():
                    times[name].append(seconds(read, places, size, repetition))
            figures[asked] = {name: statistics.median(taken) for name, taken in times.items()}
    for asked, taken in figures.items():
        print(f"\n{asked}: {WANTED:,} of {arguments.rows:,} blobs, {sum(map(len, expected)) / 1e6:.0f} MB")
        for name, value in taken.items():
            print(f"  {name:22} {value * 1000:12,.1f} ms   {value / taken['table']:8.1f} x the table's time")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": arguments.rows, "seconds": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()

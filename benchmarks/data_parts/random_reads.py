"""Claim: random access to blobs is 50 times faster than in Parquet, and keeps up with a folder of files.

All contestants hold the same image-like blobs (JPEG files of 10 to 75 kB) and read the same rows, given as
positions, through a handle that is open already, until each blob is an object that a decoder takes: ``bytes``, or an
Arrow buffer. They are read in batches of 32, as training reads them, which is the claim; and all in one call, which is
Parquet's best case: it goes through its file once for all of them, so that no system can be faster by more than the
share of the blobs that is asked for. Parquet is read as well as it can be: only the row groups and the column that are
needed, through a memory map. It is written twice: with the writer's default settings, which is the claim, and tuned for
random access (row groups of 16 rows, no compression, no dictionary), which costs it scans. Before each round the files'
pages are read into the page cache, for all contestants; for the cold figures they are dropped.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from benchmarks.data_parts.context import Context
from benchmarks.harness import Figure, Measured, Worker, alternate, say, times_faster

OURS = "benchmarks.data_parts.our_blob_steps"
PEER = "benchmarks.data_parts.peer_blob_steps"
BATCH = 32
CONTESTANTS = {"ours": "table", "Parquet": "default.parquet", "tuned Parquet": "tuned.parquet", "files": "files"}


def run(context: Context) -> dict[str, Figure]:
    """Figures of warm and cold random reads."""
    count, reads, rounds = context.pick(40_000, 3_000), context.pick(1_000, 100), context.pick(5, 2)
    folder = context.workspace("random_reads")
    say(f"random reads: writing {count:,} blobs four times")
    with Worker(OURS) as writer:
        writer.run("write", path=str(folder / "table"), count=count, seed=context.seed)
    with Worker(PEER) as writer:
        for name in ("default.parquet", "tuned.parquet", "files"):
            writer.run("write", path=str(folder / name), count=count, seed=context.seed)
    figures: dict[str, Figure] = {}
    for suffix, batch, cold in (("", BATCH, False), ("_one_call", reads, False), ("_one_call_cold", reads, True)):
        how = f"{reads:,} of {count:,} blobs of 10 to 75 kB, {batch:,} a call, {'cold' if cold else 'warm'} page cache"
        say(f"random reads: {how}, {rounds} rounds")
        measured = _contest(folder, count, reads, batch, rounds, context.seed, cold=cold)
        figures |= _figures(measured, reads, f"{how}.", suffix)
    return figures


def _contest(
    folder: Path, count: int, reads: int, batch: int, rounds: int, seed: int, *, cold: bool
) -> dict[str, Measured]:
    draws = random.Random(seed)  # noqa: S311  # a benchmark's draw
    positions = [draws.sample(range(count), reads) for _ in range(rounds + 1)]
    workers = {name: Worker(OURS if name == "ours" else PEER) for name in CONTESTANTS}
    try:
        turns = {}
        for name, worker in workers.items():
            worker.run("open_blobs", path=str(folder / CONTESTANTS[name]))
            turns[name] = partial(_next_read, worker, iter(positions), batch, cold)
        digests = {name: turn()["value"] for name, turn in turns.items()}
        assert len(set(digests.values())) == 1, f"the contestants read different bytes: {digests}"
        return alternate(turns, rounds)
    finally:
        for worker in workers.values():
            worker.close()


def _next_read(worker: Worker, positions: object, batch: int, cold: bool) -> dict[str, object]:
    return worker.run("read", positions=next(positions), batch=batch, cold=cold)  # type: ignore[call-overload]


def _figures(measured: dict[str, Measured], reads: int, setting: str, suffix: str) -> dict[str, Figure]:
    ours = measured["ours"]
    return {
        f"random_read_vs_parquet{suffix}": times_faster(
            ours,
            measured["Parquet"],
            "Parquet, default writer settings",
            f"{setting} The default puts all of them in one row group, so this ratio grows with the table",
        ),
        f"random_read_vs_tuned_parquet{suffix}": times_faster(
            ours, measured["tuned Parquet"], "Parquet, row groups of 16 rows, uncompressed", setting
        ),
        f"random_read_vs_files{suffix}": times_faster(ours, measured["files"], "a folder of files", setting),
        f"random_read_ms_a_blob{suffix}": Figure(
            value=ours.median / reads * 1000, unit="ms", note=f"ours, smaller is better. {setting}"
        ),
    }

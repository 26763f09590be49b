"""Claim: ingestion is a fair share of the speed at which the bytes could be copied at all.

The same image-like blobs lie in one Parquet file and in a folder of images. Ingesting them into a new table is set
against a plain copy of the file, or of the folder's files, on the same disk: once as both leave it to the operating
system to write back (neither Lance nor a copy waits for the disk), and once until both are on the disk.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.data_parts.context import Context
from benchmarks.harness import Figure, Measured, Worker, alternate, say

OURS = "benchmarks.data_parts.our_blob_steps"
PEER = "benchmarks.data_parts.peer_blob_steps"


def run(context: Context) -> dict[str, Figure]:
    """Figures of ingestion against a copy."""
    count, rounds = context.pick(20_000, 1_000), context.pick(5, 2)
    folder = context.workspace("ingestion")
    parquet, images = folder / "default.parquet", folder / "images"
    say(f"ingestion: writing {count:,} blobs as Parquet and as files")
    with Worker(PEER) as writer:
        for path in (parquet, images):
            writer.run("write", path=str(path), count=count, seed=context.seed)
    figures: dict[str, Figure] = {}
    for source, suffix, what in ((parquet, "", "Parquet file"), (images, "_image_folder", "folder of images")):
        for durable in (False, True):
            say(f"ingestion: {what} against its copy, {'until on disk' if durable else 'page cache'}, {rounds} rounds")
            measured = _contest(source, folder, count, rounds, durable)
            figures |= _figures(measured, source, suffix + ("_durable" if durable else ""), what, durable)
    return figures


def _contest(source: Path, folder: Path, count: int, rounds: int, durable: bool) -> dict[str, Measured]:
    with Worker(OURS) as ours, Worker(PEER) as peer:
        target, copied = folder / "table", folder / "copy"
        turns = {
            "ingest": partial(ours.run, "ingest_into", source=str(source), target=str(target), durable=durable),
            "copy": partial(peer.run, "copy", source=str(source), target=str(copied), durable=durable),
        }
        for turn in turns.values():  # once without counting: reads the source into the page cache
            turn()
        measured = alternate(turns, rounds)
        assert measured["ingest"].value == count, f"ingest wrote {measured['ingest'].value} of {count} rows"
        return measured


def _figures(measured: dict[str, Measured], source: Path, suffix: str, what: str, durable: bool) -> dict[str, Figure]:
    ours, copy = measured["ingest"], measured["copy"]
    size = sum(f.stat().st_size for f in ([source] if source.is_file() else source.iterdir())) / 1e6
    until = "until the bytes are on the disk" if durable else "neither waits for the disk"
    return {
        f"ingest_share_of_copy{suffix}": Figure(
            value=copy.median / ours.median,
            unit="of the speed of a copy",
            baseline=1.0,
            baseline_name=f"plain copy: {size / copy.median:,.0f} MB/s, ours {size / ours.median:,.0f} MB/s",
            note=f"bigger is better. {what} of {size:,.0f} MB, {until}. Medians; ours {ours}; copy {copy}.",
        ),
        f"ingest_mb_per_s{suffix}": Figure(
            value=size / ours.median,
            unit="MB/s",
            baseline=size / copy.median,
            baseline_name="plain copy",
            note=f"bigger is better. {what}, {until}",
        ),
    }

"""Claims of the data layer: random reads, ingestion, point-in-time joins, online reads, cleaning, memory.

    make bench NAME=data                           all parts, about 20 minutes on two quiet cores
    make bench NAME=data ARGS="--quick"            a smoke test on small data; its figures mean nothing
    make bench NAME=data ARGS="--only online"      one part, merged into the results that are there
    make bench NAME=data ARGS="--seed 7"           other data of the same kind
    make bench NAME=data ARGS="--full"             also a million short texts through datasketch

Peers are installed at their pinned versions in environments of their own, once. Data lies in a temporary folder (up to
6 GB), which is removed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import peers
from benchmarks.data_parts.context import Context
from benchmarks.harness import Figure, say, write_results

PARTS = ("random_reads", "ingestion", "point_in_time", "online_reads", "near_duplicates", "label_errors", "memory")
VERSIONS = ("deepseek", "pylance", "pyarrow", "duckdb", "pandas", "redis", "lmdb", "cleanlab", "scikit-learn")


def main() -> None:
    """Run the parts and leave their figures in results/data.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="run this part alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small data, to see that everything runs")
    parser.add_argument("--full", action="store_true", help="also what takes a peer longer than all the rest")
    parser.add_argument("--seed", type=int, default=0, help="seed of all data (default 0)")
    parser.add_argument("--folder", type=Path, help="where the data may lie meanwhile (default: the temporary folder)")
    parser.add_argument("--output", type=Path, help="the result file (default: benchmarks/results/data.json)")
    options = parser.parse_args()
    if options.quick and options.output is None:
        parser.error("--quick measures nothing of worth; say with --output where its figures may go")
    figures: dict[str, Figure] = {}
    for part in options.only or PARTS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=options.folder, prefix=f"bench-{part}-") as folder:
            context = Context(folder=Path(folder), seed=options.seed, quick=options.quick, full=options.full)
            found = importlib.import_module(f"benchmarks.data_parts.{part}").run(context)
        figures |= found
        for key, figure in found.items():
            say(f"{key} = {figure.value:.4g} {figure.unit}")
        pinned = peers.versions(*peers.FEAST[:1], *peers.DATASKETCH[:1])
        target = write_results("data", found, versions=VERSIONS, peers=pinned, target=options.output)
        say(f"{part}: {time.monotonic() - started:.0f} s, written to {target}")


if __name__ == "__main__":
    main()

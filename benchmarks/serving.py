"""Claims of serving: requests a second and latency in every protocol, beside other servers; what metrics cost; a soak.

    make bench NAME=serving                                       about an hour on two quiet cores
    make bench NAME=serving ARGS="--only gateway --rounds 3"      the identity model: ours and the peers, 15 minutes
    make bench NAME=serving ARGS="--only soak --soak-seconds 60"
    make bench NAME=serving ARGS="--quick --output x"             a smoke test; its figures mean nothing

Needs wrk and h2load on the path (Debian: apt-get install wrk nghttp2-client). Peers are installed at their pinned
versions in environments of their own, once. Load generator and server share two cores, and only one server runs at a
time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import peers
from benchmarks.harness import CORES, Figure
from benchmarks.parts import chosen_parts, run_parts
from benchmarks.serving_parts import gateway, metrics_cost, minilm, soak, tabular
from benchmarks.serving_parts.contestants import PEERS
from benchmarks.serving_parts.context import Context

PARTS: dict[str, Callable[[Context], dict[str, Figure]]] = {
    "gateway": gateway.run,
    "tabular": tabular.run,
    "minilm": minilm.run,
    "metrics": metrics_cost.run,
    "soak": soak.run,
}
PEER_PINS = {name: pin for peer in PEERS for name, pin in peers.versions(*peer.pins).items()}
PINS = {"gateway": PEER_PINS, "tabular": PEER_PINS}
VERSIONS = ("deepseek", "granian", "pygrpc-native", "grpcio", "uvloop", "msgspec", "protobuf", "numpy", "scikit-learn")
QUICK_S = 1.0


def main() -> None:
    """Run the parts and leave their figures in results/serving.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help=f"parts, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="times that each server is started (default 5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a load (default 5)")
    parser.add_argument("--soak-seconds", type=float, default=600.0, help="length of the soak (default 600)")
    parser.add_argument("--quick", action="store_true", help="short loads, one peer, to see that everything runs")
    parser.add_argument("--workspace", type=Path, help="a folder to keep the MiniLM bundle in")
    parser.add_argument("--output", type=Path, help="the result file (default: benchmarks/results/serving.json)")
    options = parser.parse_args()
    chosen = chosen_parts(parser, options, PARTS)
    if hasattr(os, "sched_setaffinity"):  # servers and load generators inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as own:
        context = Context(
            folder=options.workspace.absolute() if options.workspace else Path(own),
            rounds=1 if options.quick else options.rounds,
            seconds=QUICK_S if options.quick else options.seconds,
            warm_up=QUICK_S if options.quick else 2.0,
            soak_seconds=2 * QUICK_S if options.quick else options.soak_seconds,
            quick=options.quick,
        )
        parts = {part: PARTS[part] for part in chosen}
        run_parts("serving", parts, context, versions=VERSIONS, pins=PINS, target=options.output)


if __name__ == "__main__":
    main()

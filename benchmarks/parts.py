"""What benchmarks of several parts share: which to run, and figures that are written as soon as a part has them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.harness import Figure, say, write_results

C = TypeVar("C")


def chosen_parts(
    parser: argparse.ArgumentParser, options: argparse.Namespace, known: Mapping[str, object]
) -> list[str]:
    """The parts that ``--only`` names, with commas between or one a time; all without it. Ends the process if wrong."""
    chosen = [part for given in options.only or [",".join(known)] for part in given.split(",")]
    if unknown := [part for part in chosen if part not in known]:
        parser.error(f"unknown part {unknown[0]!r}; expected some of {', '.join(known)}")
    if options.quick and options.output is None:
        parser.error("--quick measures nothing of worth; say with --output where its figures may go")
    return chosen


def run_parts(
    name: str,
    parts: Mapping[str, Callable[[C], Mapping[str, Figure]]],
    context: C,
    *,
    versions: Sequence[str],
    pins: Mapping[str, Mapping[str, str]],
    target: Path | None,
) -> None:
    """Run parts in order; each one's figures go to the result file before the next begins.

    Args:
        name: of the result file.
        pins: part -> versions of its peers.
    """
    for part, run in parts.items():
        started = time.monotonic()
        found = run(context)
        for key, figure in found.items():
            say(f"{key} = {figure.value:.4g} {figure.unit}")
        peers = {f"{peer} (peer)": pin for peer, pin in pins.get(part, {}).items()}
        written = write_results(name, found, versions=versions, peers=peers, target=target)
        say(f"{part}: {time.monotonic() - started:.0f} s, written to {written}")

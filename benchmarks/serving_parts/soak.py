"""Claim: ten minutes at full load in both protocols, without an error and without growth of memory.

REST and gRPC are loaded together in slices of a minute, each with new connections, so that leaving clients are part of
it; memory is read after each slice, and what it is after the first is what growth is counted from.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import Figure, StepFailed, say
from benchmarks.serving_parts.contestants import BOTH, ours
from benchmarks.serving_parts.context import Context
from benchmarks.serving_parts.gateway import OURS
from benchmarks.serving_parts.load import Load, Row
from benchmarks.serving_parts.measuring import measure, started
from benchmarks.serving_parts.models import IDENTITY

SLICE_S = 60.0


def run(context: Context) -> dict[str, Figure]:
    """Errors, growth and rate of the soak."""
    slices = max(2, round(context.soak_seconds / SLICE_S))
    length = context.soak_seconds / slices
    loads: list[Load] = []
    memory: list[float] = []
    contestant = ours(OURS, loads=(BOTH,))
    with started(contestant, {}, IDENTITY, context.workspace("soak")) as target:
        for turn in range(slices):
            loads.append(measure(context, target, BOTH, seconds=length))
            memory.append(target.server.resident_mb())
            say(f"soak, {turn + 1} of {slices}: {Row((loads[-1],))}, {memory[-1]:.1f} MB")
        status = target.server.close()
    if status != 0:
        raise StepFailed(f"the server ended with {status} after the soak")
    return figures(loads, memory)


def figures(loads: Sequence[Load], memory: Sequence[float]) -> dict[str, Figure]:
    """From the slices' loads and the memory after each, in MB."""
    row = Row(tuple(loads))
    asked = sum(load.requests + load.errors for load in loads)
    seconds = sum(load.seconds for load in loads)
    told = f"{seconds:,.0f} s, {asked:,} requests over REST and gRPC at once: {row}"
    course = ", ".join(f"{each:.1f}" for each in memory)
    return {
        "soak_errors": Figure(
            value=row.errors,
            unit="failed requests",
            baseline=0.0,
            baseline_name="promised",
            note=f"smaller is better. {told}.",
        ),
        "soak_memory_growth_mb": Figure(
            value=memory[-1] - memory[0],
            unit="MB",
            baseline=memory[0],
            baseline_name="resident after the first slice",
            note=f"flat is promised. Resident memory after each slice, in MB: {course}. {told}.",
        ),
    }

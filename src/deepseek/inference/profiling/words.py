"""A profile as tables of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deepseek.inference.profiling.outcome import Outside, Part, Phase, Profile
from deepseek.inference.profiling.units import duration, number, rate, speed

TOP = 10
"""Modules and operators that are shown."""
HEADER = ("phase", "time", "tokens/s", "GFLOP", "MB", "FLOP/byte", "reached", "limit", "share")
PARTS = ("module", "share", "time", "operator", "share", "time")


def title(profile: Profile) -> str:
    """What was run where, in one line."""
    peaks = profile.peaks
    size = "" if profile.parameters is None else f", {profile.parameters / 1e6:,.1f} M weights"
    where = profile.device if peaks is None else f"{peaks.name} ({profile.device})"
    threads = f", {peaks.threads} thread{'s' if peaks.threads != 1 else ''}" if peaks and peaks.threads else ""
    return f"{profile.model}{size}, {profile.runtime} {profile.dtype}, on {where}{threads}"


def roof(profile: Profile) -> str:
    """The two limits of the device, in one line; empty where they are not known."""
    limit = next((phase.limit for phase in profile.phases if phase.limit), None)
    if limit is None:
        return ""
    return (
        f"limits, measured: {rate(limit.peak)} in {limit.precision}, {speed(limit.bandwidth)} from memory; arithmetic "
        f"binds from {number(limit.ridge)} FLOPs a byte on"
    )


def row(phase: Phase) -> tuple[str, ...]:
    """A phase, one cell for each column of :data:`HEADER`."""
    work, limit = phase.work, phase.limit
    cells: tuple[str, ...] = (
        phase.name,
        duration(phase.seconds),
        number(phase.tokens_per_second) if phase.new_tokens else "-",
    )
    if work is None or phase.flops_per_second is None:
        return (*cells, "-", "-", "-", "-", "-", "-")
    cells = (*cells, number(work.flops / 1e9), number(work.bytes / 1e6), number(work.intensity))
    if limit is None or phase.share is None:
        return (*cells, rate(phase.flops_per_second), "-", "-")
    if limit.kind == "memory":
        reached, most = speed(work.bytes / phase.seconds), speed(limit.bandwidth)
    else:
        reached, most = rate(phase.flops_per_second), rate(limit.peak)
    return (*cells, reached, f"{limit.kind}, {most}", f"{phase.share:.0%}")


def parts(phase: Phase) -> list[tuple[str, ...]]:
    """The largest modules and operators side by side, one cell for each column of :data:`PARTS`."""
    if phase.breakdown is None:
        return []
    sides = [_side(found, phase.seconds) for found in (phase.breakdown.modules, phase.breakdown.operators)]
    longest = max(map(len, sides))
    left, right = (side + [("", "", "")] * (longest - len(side)) for side in sides)
    return [(*one, *other) for one, other in zip(left, right, strict=True)]


def _side(found: Sequence[Part], seconds: float) -> list[tuple[str, str, str]]:
    shown = [(part.name, f"{part.share:.1%}", duration(part.share * seconds)) for part in found[:TOP]]
    if rest := found[TOP:]:
        share = sum(part.share for part in rest)
        shown.append((f"({len(rest)} others)", f"{share:.1%}", duration(share * seconds)))
    return shown


def outside(found: Outside, phase: Phase | None) -> str:
    """What is done outside of the model, in one line; ``phase``: the pass that it prepares."""
    said = f"outside the model: preparing {found.rows:,} row{'s' if found.rows != 1 else ''} takes "
    said += duration(found.prepare_seconds)
    if phase is not None:
        part = found.prepare_seconds / (found.prepare_seconds + phase.seconds)
        said += f", {part:.1%} of that and {phase.name} together"
    if found.padding is None:
        return f"{said}; made-up rows are all as long, so there is no padding; give rows of yours to see theirs"
    return f"{said}; {found.padding:.1%} of the tokens are padding"


def prepared(profile: Profile) -> Phase | None:
    """The pass that the rows of ``profile.outside`` are for."""
    able = [phase for phase in profile.phases if phase.kind != "decode"]
    return next((phase for phase in able if phase.rows == profile.outside.rows), None)


def lines(profile: Profile) -> Iterator[str]:
    """The whole profile as plain text."""
    yield title(profile)
    if found := roof(profile):
        yield found
    yield from _aligned([HEADER, *(row(phase) for phase in profile.phases)])
    for phase in profile.phases:
        if phase.reason:
            yield f"{phase.name}: {phase.reason}"
    for phase in profile.phases:
        if shown := parts(phase):
            yield f"where the time of {phase.name} goes:"
            yield from _aligned([PARTS, *shown])
    yield outside(profile.outside, prepared(profile))
    yield from profile.notes


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(cells[i]) for cells in table) for i in range(len(table[0]))]
    for cells in table:
        yield "  ".join(map(str.ljust, cells, widths)).rstrip()

"""The roofline as a picture: the two limits of a device, and each phase below them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from deepseek.errors import ConfigError, require
from deepseek.inference.profiling.outcome import Phase, Profile
from deepseek.inference.profiling.units import rate, speed
from deepseek.inference.profiling.words import title

BLUE, GREY, RED, LIGHT = "#1f6feb", "#8b949e", "#d1242f", "#d0d7de"
CLOSE = 1.25
"""Peaks that differ by less share a line."""
COLOURS = {"forward": BLUE, "prefill": "#8250df", "decode": RED}


def draw(profile: Profile, path: str | os.PathLike[str]) -> None:
    """Write the roofline of a profile as a PNG (or another format that the path's ending names).

    Raises:
        ConfigError: no limit is known, so that there is no roof to draw.
        MissingExtraError: matplotlib is not installed.
    """
    found = require("matplotlib.figure", "plots")
    shown = [phase for phase in profile.phases if phase.limit is not None and phase.work is not None]
    if not shown or profile.peaks is None:
        raise ConfigError(
            f"no limit is known for {profile.runtime!r} on {profile.device!r}, so there is no roofline to draw"
        )
    figure = found.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    _roofs(axes, profile, shown)
    for phase, lines in _lowered(axes, shown):
        _point(axes, phase, lines)
    axes.set_title(title(profile).replace(", on ", "\non "), fontsize=9, loc="left")
    axes.set_xlabel("arithmetic intensity, FLOPs for each byte that has to move", fontsize=9)
    axes.set_ylabel("GFLOP/s", fontsize=9)
    axes.tick_params(labelsize=8, color=LIGHT)
    axes.tick_params(which="minor", color=LIGHT)
    axes.grid(color=LIGHT, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LIGHT)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(Path(path), dpi=140)


def _roofs(axes: Any, profile: Profile, shown: list[Phase]) -> None:
    assert profile.peaks is not None
    limit = shown[0].limit
    assert limit is not None
    intensities = [phase.work.intensity for phase in shown if phase.work is not None]
    rates = [phase.flops_per_second or 1.0 for phase in shown]
    left = 10 ** math.floor(math.log10(min(*intensities, limit.ridge) / 2))
    right = 10 ** math.ceil(math.log10(max(*intensities, limit.ridge) * 3))
    tops = {name: peak.tflops * 1e12 for name, peak in profile.peaks.products.items()}
    higher = [(top, name) for name, top in tops.items() if top > limit.peak * CLOSE]
    for top, names in _together(higher):
        right = max(right, 10 * top / limit.bandwidth)
        axes.axhline(top / 1e9, xmin=0, color=LIGHT, linewidth=0.8, linestyle="--", zorder=1)
        axes.annotate(names, (1, top / 1e9), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                      textcoords="offset points", ha="right", fontsize=7, color=GREY)  # fmt: skip
    highest = max([limit.peak, *(top for top, _ in higher)])
    axes.plot([left, highest / limit.bandwidth], [left * limit.bandwidth / 1e9, highest / 1e9], color=LIGHT,
              linewidth=1, zorder=1)  # fmt: skip
    axes.plot(
        [left, limit.ridge, right], [left * limit.bandwidth / 1e9, limit.peak / 1e9, limit.peak / 1e9],
        color="#24292f", linewidth=1.8, zorder=2,
        label=f"limit, measured: {speed(limit.bandwidth)}, {rate(limit.peak)} in {limit.precision}",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    lowest = min(*rates, left * limit.bandwidth) / 2
    axes.set_ylim(lowest / 1e9, highest * 2.5 / 1e9)


def _together(tops: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Peaks that would lie on each other as one: the highest of them, with all their names."""
    found: list[tuple[float, str]] = []
    for top, name in sorted(tops, reverse=True):
        if found and found[-1][0] < top * CLOSE:
            found[-1] = found[-1][0], f"{found[-1][1]}, {name}"
        else:
            found.append((top, name))
    return found


def _lowered(axes: Any, shown: list[Phase]) -> list[tuple[Phase, int]]:
    """Each phase with the lines that its words go down, so that they do not lie on a neighbour's."""
    points = sorted(
        (phase.work.intensity, phase.flops_per_second or 1.0, i) for i, phase in enumerate(shown) if phase.work
    )
    wide, high = (math.log10(end / begin) for begin, end in (axes.get_xlim(), axes.get_ylim()))
    found: list[tuple[Phase, int]] = []
    before, lines = (0.0, 0.0), 0
    for at, reached, i in points:
        near = before[0] and math.log10(at / before[0]) < wide / 5 and abs(math.log10(reached / before[1])) < high / 20
        lines = lines + 1 if near else 0
        before = at, reached
        found.append((shown[i], lines))
    return found


def _point(axes: Any, phase: Phase, lines: int) -> None:
    assert phase.work is not None
    assert phase.limit is not None
    at, reached = phase.work.intensity, (phase.flops_per_second or 0.0) / 1e9
    colour = COLOURS[phase.kind]
    roof = min(phase.limit.peak, at * phase.limit.bandwidth) / 1e9
    axes.plot([at, at], [reached, roof], color=colour, linewidth=1, linestyle=":", zorder=2)
    axes.scatter([at], [reached], s=46, color=colour, zorder=3, edgecolors="white", linewidths=0.8)
    begin, end = (math.log10(edge) for edge in axes.get_xlim())
    late = (math.log10(at) - begin) / (end - begin) > 0.75  # or the words would leave the picture
    axes.annotate(f"{phase.name}: {phase.share:.0%}", (at, reached), xytext=(-7 if late else 7, -11 - 11 * lines),
                  textcoords="offset points", ha="right" if late else "left", fontsize=8, color=colour)  # fmt: skip

"""Both sides of a comparison as shares over the same bins, for a picture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepseek.data.profiles.arrow_values import iso
from deepseek.data.profiles.columns import (
    BlobSketch,
    BooleanSketch,
    ColumnSketch,
    ListSketch,
    NumberSketch,
    TextSketch,
    TimeSketch,
    VectorSketch,
)
from deepseek.data.profiles.comparison import DISCRETE
from deepseek.data.profiles.live import number_bins
from deepseek.data.profiles.plots import plain_grid, regrid, short


@dataclass(frozen=True)
class Bars:
    """Both sides' shares over the same bins, for a plot."""

    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


def bars(reference: Mapping[str, Any], sketch: ColumnSketch) -> Bars | None:
    """The distribution to draw, where the kind of column has one."""
    if isinstance(sketch, NumberSketch) and sketch.moments.count and reference.get("edges"):
        edges, first = number_bins(reference)
        if (reference.get("distinct") or DISCRETE + 1) <= DISCRETE:
            return _bars([short(edge) for edge in edges[:-1]], first, sketch.histogram.counts)
        grid = plain_grid(reference)
        write = iso if isinstance(sketch, TimeSketch) else short
        labels = [f"{write(low)} to {write(high)}" for low, high in itertools.pairwise(grid)]
        return _bars(labels, regrid(edges, first, grid), regrid(edges, sketch.histogram.counts, grid))
    if isinstance(sketch, BooleanSketch):
        top = reference["top"]
        return _bars(["true", "false"], [top["true"], top["false"]], [sketch.true, sketch.count - sketch.true])
    if isinstance(sketch, TextSketch):
        before, now = reference["top"], sketch.top
        if before is not None and now is not None:
            total, weight = max(sum(before.values()), 1), max(sum(now.values()), 1)
            share = {name: max(before.get(name, 0) / total, now[name] / weight) for name in {*before, *now}}
            names = sorted(share, key=lambda name: (-share[name], name))[:20]
            sides = [before.get(name, 0) / total for name in names], [now[name] / weight for name in names]
            return Bars(tuple(names), *map(tuple, sides))
        length = reference["length"]
        kept = [i for i in range(len(length["counts"])) if length["counts"][i] or sketch.lengths[i]]
        labels = [f"{length['edges'][i]}+ characters" for i in kept]
        if len(kept) < 2:
            return None
        return _bars(labels, [length["counts"][i] for i in kept], [sketch.lengths[i] for i in kept])
    if isinstance(sketch, VectorSketch) and sketch.used and "norm" in reference:
        return bars(reference["norm"], sketch.norm)
    if isinstance(sketch, BlobSketch):
        return bars(reference["size"], sketch.size)
    return bars(reference["length"], sketch.length) if isinstance(sketch, ListSketch) else None


def _bars(labels: Any, reference: Any, current: Any) -> Bars:
    first, second = np.array(reference, float), np.array(current, float)
    shares = [tuple((side / max(side.sum(), 1)).tolist()) for side in (first, second)]
    return Bars(tuple(map(str, labels)), *shares)

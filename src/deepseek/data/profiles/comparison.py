"""What differs between a column of a profile and the same column of current data: tests with their effect sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepseek.data.profiles import significance
from deepseek.data.profiles.columns import (
    BlobSketch,
    BooleanSketch,
    ColumnSketch,
    ListSketch,
    NumberSketch,
    StructSketch,
    TextSketch,
    TimeSketch,
    VectorSketch,
)
from deepseek.data.profiles.live import number_bins
from deepseek.data.profiles.plots import short
from deepseek.data.profiles.significance import Vector

PSI_BINS = 10
DISCRETE = 20


@dataclass(frozen=True)
class Comparison:
    """One test of one aspect. ``effect`` says how far apart, on a scale that ``measure`` names; ``p_value`` how likely
    chance alone makes it as far (``None``: nothing random about it)."""

    aspect: str
    measure: str
    effect: float
    p_value: float | None
    text: str
    test: str = ""
    statistic: float | None = None  # chi-square with its degrees of freedom, or Kolmogorov's with none
    freedom: int = 0

    def thinned(self, where: str, factor: float) -> Comparison:
        """As part of another column, when only ``factor`` of the values are independent observations."""
        p_value = self.p_value
        if factor < 1 and p_value is not None:
            if self.statistic is None:
                p_value = 1.0
            elif self.freedom:
                p_value = significance.chi_square_tail(self.statistic * factor, self.freedom)
            else:
                p_value = significance.kolmogorov_tail(self.statistic * math.sqrt(factor))
        return replace(self, aspect=f"{where}.{self.aspect}", text=f"{where}: {self.text}", p_value=p_value)


def compare(reference: Mapping[str, Any], sketch: ColumnSketch, absent: int = 0) -> Iterator[Comparison]:
    """All tests of a column; ``absent`` rows had no such column and count as nulls."""
    yield _nulls(reference, sketch.nulls + absent, sketch.count)
    if not reference["count"] or not sketch.count:
        return
    if isinstance(sketch, BooleanSketch):
        top = reference["top"]
        counts = {"true": sketch.true, "false": sketch.count - sketch.true}
        yield _shares("values", np.array([top["true"], top["false"]], float), np.array(list(counts.values()), float))
    elif isinstance(sketch, TimeSketch):
        return  # later data has later times: that is no drift
    elif isinstance(sketch, NumberSketch):
        yield from _numbers("values", reference, sketch)
        yield from _not_finite(reference, sketch)
    elif isinstance(sketch, TextSketch):
        yield from _texts(reference, sketch)
    elif isinstance(sketch, BlobSketch):
        yield from _numbers("sizes", reference["size"], sketch.size)
        if reference.get("formats") and sketch.formats:
            yield from _categories("formats", reference["formats"], sketch.formats)
    elif isinstance(sketch, VectorSketch):
        yield from _vectors(reference, sketch)
    elif isinstance(sketch, ListSketch):
        yield from _numbers("lengths", reference["length"], sketch.length)
        # Items of one list depend on one another, lists do not: as many observations as lists, which errs towards "no
        # difference"
        factor = min(1.0, _share(reference["count"], reference["items"]), sketch.count / max(_values(sketch.items), 1))
        for found in compare(reference["items"], sketch.items):
            yield found.thinned("items", factor)
    elif isinstance(sketch, StructSketch):
        for name, field in sketch.fields.items():
            for found in compare(reference["fields"][name], field):
                yield found.thinned(name, 1.0)


def _share(count: int, inner: Mapping[str, Any]) -> float:
    return count / max(int(inner["count"]) + int(inner["nulls"]), 1)


def _values(sketch: ColumnSketch) -> int:
    return sketch.count + sketch.nulls


def _nulls(reference: Mapping[str, Any], nulls: int, count: int) -> Comparison:
    first = np.array([reference["nulls"], reference["count"]], float)
    second = np.array([nulls, count], float)
    before, now = (float(side[0] / max(side.sum(), 1)) for side in (first, second))
    text = f"nulls {before:.1%} → {now:.1%}"
    return _counted("nulls", "share", abs(now - before), text, first, second)


def _counted(aspect: str, measure: str, effect: float, text: str, reference: Vector, current: Vector) -> Comparison:
    statistic, freedom, p_value = significance.chi_square(reference, current)
    return Comparison(aspect, measure, effect, p_value, text, "chi-square", statistic, max(freedom, 1))


def _not_finite(reference: Mapping[str, Any], sketch: NumberSketch) -> Iterator[Comparison]:
    first = np.array([reference["nan"], reference["count"] - reference["nan"]], float)
    second = np.array([sketch.nan, sketch.count - sketch.nan], float)
    if first[0] or second[0]:
        before, now = (float(side[0] / side.sum()) for side in (first, second))
        text = f"not finite {before:.1%} → {now:.1%}"
        yield _counted("nan", "share", abs(now - before), text, first, second)


def _shares(aspect: str, reference: Vector, current: Vector, text: str = "") -> Comparison:
    distance = significance.psi(reference, current)
    return _counted(aspect, "psi", distance, text or f"{aspect}: PSI {distance:.3f}", reference, current)


def _numbers(aspect: str, reference: Mapping[str, Any], sketch: NumberSketch) -> Iterator[Comparison]:
    if not sketch.moments.count or not reference.get("edges"):
        return
    first = np.array(number_bins(reference)[1], float)
    second = sketch.histogram.counts.astype(float)
    before, now = reference["mean"], float(sketch.moments.mean)
    means = f"mean {short(before)} → {short(now)}"
    outside = sketch.histogram.outside / sketch.moments.count
    beyond = f", {outside:.1%} outside [{short(reference['min'])}, {short(reference['max'])}]" if outside else ""
    few, many, _ = _grouped(first, second, PSI_BINS)
    distance = significance.psi(few, many)
    yield _shares(aspect, few, many, f"{aspect}: PSI {distance:.3f}, {means}{beyond}")
    if (reference.get("distinct") or DISCRETE + 1) <= DISCRETE:  # chi-square is the test, on each value
        if unknown := sketch.histogram.unknown:
            share = unknown / sketch.moments.count
            known = np.array([first.sum(), 0.0]), np.array([second.sum() - unknown, float(unknown)])
            text = f"{aspect}: {share:.1%} of them were not among the {reference['distinct']} before, {means}"
            yield _counted(f"new {aspect}", "share", share, text, *known)
    else:
        if outside:
            p_value = significance.outside_tail(int(first.sum()), int(second.sum()), sketch.histogram.outside)
            text = f"{aspect}{beyond.replace(',', ':', 1)}"
            yield Comparison(f"{aspect} (range)", "share", outside, p_value, text, "order statistics")
        gap, p_value = significance.kolmogorov_smirnov(first, second)
        text = f"{aspect}: KS distance {gap:.3f}, {means}"
        test = f"Kolmogorov-Smirnov on {len(first)} bins"
        n, m = first.sum(), second.sum()
        statistic = gap * math.sqrt(n * m / (n + m))
        yield Comparison(f"{aspect} (KS)", "distance", gap, p_value, text, test, statistic)


def _grouped(reference: Vector, current: Vector, number: int) -> tuple[Vector, Vector, list[int]]:
    """Neighbouring bins joined to at most ``number`` of about equal reference counts, and the first bin of each."""
    before = np.concatenate([[0], np.cumsum(reference)[:-1]])
    group = np.floor(before * number / max(reference.sum(), 1) + 1e-9).astype(int)
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    return np.add.reduceat(reference, starts), np.add.reduceat(current, starts), starts.tolist()


def _texts(reference: Mapping[str, Any], sketch: TextSketch) -> Iterator[Comparison]:
    length = reference["length"]
    before, now = length["mean"], sketch.characters / sketch.count
    first, second = np.array(length["counts"], float), sketch.lengths.astype(float)
    distance = significance.psi(first, second)
    yield _shares("lengths", first, second, f"lengths: PSI {distance:.3f}, mean {before:.0f} → {now:.0f} characters")
    if reference["top"] is not None and sketch.top is not None:
        yield from _categories("values", reference["top"], sketch.top)
    elif "hashed" in reference:
        first, second = np.array(reference["hashed"], float), sketch.hashed.astype(float)
        text = f"values: PSI {significance.psi(first, second):.3f}{_overlap(reference, sketch)}"
        yield _shares("values", first, second, text)
    elif reference["top"] is not None:
        text = f"values: more than {len(reference['top'])} distinct ones now"
        yield Comparison("values", "share", 1.0, None, text)
    if "grams" in reference:
        yield from _vocabulary(np.array(reference["grams"], float), sketch, reference["count"])


def _overlap(reference: Mapping[str, Any], sketch: TextSketch) -> str:
    """How much of the two sets of distinct values is in both, from the least hashes of either (Broder 1997)."""
    first = np.array([int(word, 16) for word in reference["least_hashes"]], dtype=np.uint64)
    second = sketch.distinct.least[: len(first)] if len(first) else sketch.distinct.least
    if not len(first) or not len(second):
        return ""
    least = np.union1d(first, second)[: min(len(first), len(second))]
    shared = np.isin(least, first) & np.isin(least, second)
    return f", {shared.mean():.0%} of the distinct values in both"


def _vocabulary(reference: Vector, sketch: TextSketch, texts: int) -> Iterator[Comparison]:
    current = sketch.grams.astype(float)
    if not reference.sum() or not current.sum():
        return
    distance = significance.psi(reference, current)
    # Letters of one text depend on one another, texts do not: a text counts as one observation, which errs towards
    # "no difference"
    one, two = reference * (texts / reference.sum()), current * (sketch.count / current.sum())
    yield _counted("vocabulary", "psi", distance, f"vocabulary: PSI {distance:.3f}", one, two)


def _categories(aspect: str, reference: Mapping[str, int], current: Mapping[str, int]) -> Iterator[Comparison]:
    names = sorted({*reference, *current})
    first = np.array([reference.get(name, 0) for name in names], float)
    second = np.array([current.get(name, 0) for name in names], float)
    fresh = [name for name in names if name not in reference]
    gone = [name for name in names if name not in current]
    text = f"{aspect}: PSI {significance.psi(first, second):.3f}"
    text += f", missing {_some(gone)}" if gone else ""
    yield _shares(aspect, first, second, text)
    if fresh:
        share = float(sum(current[name] for name in fresh) / second.sum())
        known = np.array([first.sum(), 0.0]), np.array([second.sum() * (1 - share), second.sum() * share])
        text = f"{aspect}: new {_some(fresh)}, {share:.1%} of the rows"
        yield _counted(f"new {aspect}", "share", share, text, *known)


def _vectors(reference: Mapping[str, Any], sketch: VectorSketch) -> Iterator[Comparison]:
    if not sketch.used or "norm" not in reference:
        return
    n, m = reference["count"] - reference["not_finite"], sketch.used
    before, now = np.array(reference["mean"]), sketch.mean
    variance = (np.array(reference["std"]) ** 2 * n + sketch.squares) / (n + m)
    gap = now - before
    spread = float(variance.sum())
    moving = variance > 0
    if gap[~moving].any():
        text = "dimensions that were constant have another value"
        yield _counted("constants", "share", 1.0, text, np.array([n, 0.0]), np.array([0.0, m]))
    effect = float(np.linalg.norm(gap[moving])) / math.sqrt(spread) if spread else 0.0
    z = np.abs(gap[moving]) / np.sqrt(variance[moving] * (1 / n + 1 / m))
    p_value = significance.any_of(significance.two_sided(float(z.max())), len(z)) if len(z) else 1.0
    norms = float(np.linalg.norm(before) * np.linalg.norm(now))
    cosine = f", cosine of the means {float(before @ now) / norms:.3f}" if norms else ""
    text = f"mean moved by {effect:.3f} standard deviations{cosine}"
    yield Comparison("mean", "deviations", effect, p_value, text, "z-test of each dimension, Šidák")
    yield from _numbers("norms", reference["norm"], sketch.norm)
    sides = [
        significance.kolmogorov_smirnov(np.array(bins["counts"], float), along.histogram.counts.astype(float))
        for bins, along in zip(reference["along"], sketch.along, strict=True)
    ]
    gap_along, least = max(side[0] for side in sides), min(side[1] for side in sides)
    text = f"KS distance {gap_along:.3f} along the random direction where it is greatest"
    p_value = significance.any_of(least, len(sides))
    yield Comparison("directions", "distance", gap_along, p_value, text, f"Kolmogorov-Smirnov x{len(sides)}, Šidák")


def _some(names: list[str], most: int = 3) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")

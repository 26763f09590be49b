"""Rows counted against a reference: the same sketches as a profile's, but binned where the reference has its edges.

So the current side never needs a profile of its own, its counts are exact, and memory is bounded however many rows
come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from deepseek.data.profiles import arrow_values
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
from deepseek.data.profiles.sketches import Cuts
from deepseek.errors import DataError

Reference = Mapping[str, Any]


class LiveColumn:
    """One column of the current data: what has come so far, as the reference's kind, and what did not fit it."""

    def __init__(self, reference: Reference) -> None:
        self.sketch = live_sketch(reference)
        self.absent = 0
        self.misfits: dict[str, int] = {}

    def update(self, array: pa.Array | None, rows: int) -> None:
        """Add a batch's column; ``None`` when the batch has no such column."""
        if array is None:
            self.absent += rows
            return
        array = arrow_values.plain(array)
        if pa.types.is_null(array.type):
            self.sketch.nulls += len(array)
        elif (fitting := _fitted(array, self.sketch)) is not None:
            self.sketch.update(fitting)
        else:
            kind = str(array.type)
            self.misfits[kind] = self.misfits.get(kind, 0) + len(array)

    def merge(self, other: LiveColumn) -> None:
        """Add what another one has seen against the same reference."""
        self.sketch.merge(other.sketch)
        self.absent += other.absent
        for kind, count in other.misfits.items():
            self.misfits[kind] = self.misfits.get(kind, 0) + count


def live_sketch(reference: Reference) -> ColumnSketch:
    """An empty sketch that counts in the bins of a profile's column.

    Raises:
        DataError: the profile has a kind of column that is not known here.
    """
    kind = reference["kind"]
    if kind in ("number", "time"):
        sketch = TimeSketch() if kind == "time" else NumberSketch()
        sketch.histogram = Cuts(number_bins(reference)[0])
        return sketch
    if kind == "vector":
        vector = VectorSketch(reference["dimension"])
        if "norm" in reference:
            vector.norm.histogram = Cuts(number_bins(reference["norm"])[0])
            for along, bins in zip(vector.along, reference["along"], strict=True):
                along.histogram = Cuts(bins["edges"])
        return vector
    if kind == "blob":
        blob = BlobSketch()
        blob.size.histogram = Cuts(number_bins(reference["size"])[0])
        return blob
    if kind == "list":
        lists = ListSketch(live_sketch(reference["items"]))
        lists.length.histogram = Cuts(number_bins(reference["length"])[0])
        return lists
    if kind == "struct":
        return StructSketch({name: live_sketch(field) for name, field in reference["fields"].items()})
    simple: dict[str, type[ColumnSketch]] = {"text": TextSketch, "boolean": BooleanSketch, "other": ColumnSketch}
    if kind not in simple:
        raise DataError(f"the reference has a column of kind {kind!r}, which this version does not know")
    return simple[kind]()


def number_bins(reference: Reference) -> tuple[list[float], list[int]]:
    """Edges and counts of a profile's numbers, the finest that it has; one open bin when it has none."""
    fine = reference.get("fine") or reference
    if len(fine.get("edges", ())) < 2:
        value = reference.get("min", 0.0)
        return [value, value], [reference.get("count", 0)]
    return fine["edges"], fine["counts"]


def _fitted(array: pa.Array, sketch: ColumnSketch) -> pa.Array | None:
    """The array as the sketch takes it; ``None`` when it is of another kind."""
    kind = array.type
    if isinstance(sketch, TextSketch):
        fits = arrow_values.is_text(arrow_values.storage(kind))
    elif isinstance(sketch, BooleanSketch):
        fits = pa.types.is_boolean(kind)
    elif isinstance(sketch, TimeSketch):
        fits = arrow_values.is_time(kind)
    elif isinstance(sketch, NumberSketch):
        fits = arrow_values.is_number(kind)
    elif isinstance(sketch, BlobSketch):
        fits = arrow_values.is_bytes(kind) or (pa.types.is_struct(kind) and "size" in {f.name for f in kind})
    elif isinstance(sketch, VectorSketch):
        return _vectors(array, sketch.dimension)
    elif isinstance(sketch, ListSketch):
        fits = arrow_values.is_list(kind) and _fitted(array.flatten(), sketch.items) is not None
    elif isinstance(sketch, StructSketch):
        return _reordered(array, sketch.fields)
    else:
        fits = True
    return array if fits else None


def _vectors(array: pa.Array, dimension: int) -> pa.Array | None:
    """Vectors of that dimension; plain lists, as rows from JSON have them, count too."""
    kind = array.type
    if arrow_values.is_vector(kind):
        return array if kind.list_size == dimension else None
    if not arrow_values.is_list(kind) or not arrow_values.is_number(kind.value_type):
        return None
    try:
        return array.cast(pa.list_(kind.value_type, dimension))
    except pa.ArrowInvalid:
        return None


def _reordered(array: pa.Array, sketches: Mapping[str, ColumnSketch]) -> pa.Array | None:
    """A struct array with exactly the sketches' fields in their order, if every one of them fits."""
    if not pa.types.is_struct(array.type) or {field.name for field in array.type} != set(sketches):
        return None
    children = dict(zip((field.name for field in array.type), array.flatten(), strict=True))
    fitted = [_fitted(arrow_values.plain(children[name]), sketch) for name, sketch in sketches.items()]
    if any(child is None for child in fitted):
        return None
    return pa.StructArray.from_arrays(fitted, list(sketches), mask=array.is_null())

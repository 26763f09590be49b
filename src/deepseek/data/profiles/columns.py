"""The sketch for each type of column."""

from __future__ import annotations

import pyarrow as pa

from deepseek.data.profiles import arrow_values
from deepseek.data.profiles.column_sketch import BooleanSketch, ColumnSketch, NumberSketch, TimeSketch
from deepseek.data.profiles.composite_sketches import BlobSketch, ListSketch, StructSketch, VectorSketch
from deepseek.data.profiles.text_sketch import TextSketch

__all__ = [
    "BlobSketch",
    "BooleanSketch",
    "ColumnSketch",
    "ListSketch",
    "NumberSketch",
    "StructSketch",
    "TextSketch",
    "TimeSketch",
    "VectorSketch",
    "sketch_for",
]


def sketch_for(field: pa.Field) -> ColumnSketch:
    """An empty sketch for a column of this name, type and metadata."""
    kind = arrow_values.storage(field.type)
    if arrow_values.is_stored_blob(field):
        return BlobSketch()
    if arrow_values.is_text(kind):
        return TextSketch()
    if pa.types.is_boolean(kind):
        return BooleanSketch()
    if arrow_values.is_time(kind):
        return TimeSketch()
    if arrow_values.is_number(kind):
        return NumberSketch()
    if arrow_values.is_bytes(kind):
        return BlobSketch()
    if arrow_values.is_vector(kind):
        return VectorSketch(kind.list_size)
    if arrow_values.is_list(kind):
        return ListSketch(sketch_for(kind.value_field))
    if pa.types.is_struct(kind):
        return StructSketch({child.name: sketch_for(child) for child in kind})
    return ColumnSketch()

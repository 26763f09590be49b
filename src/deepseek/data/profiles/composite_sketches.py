"""What is kept of columns whose values have parts: blobs, vectors, lists and structs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.profiles import arrow_values
from deepseek.data.profiles.column_sketch import ColumnSketch, NumberSketch
from deepseek.data.profiles.hashing import signs
from deepseek.data.profiles.sketches import Floats

DIRECTIONS = 8


class BlobSketch(ColumnSketch):
    """Sizes in bytes, and the formats that the first bytes tell. Blobs that are stored apart are not read for it."""

    kind = "blob"

    def __init__(self) -> None:
        super().__init__()
        self.size = NumberSketch()
        self.formats: Counter[str] = Counter()

    def _present(self, array: pa.Array) -> None:
        if pa.types.is_struct(array.type):  # a description: where the bytes lie and how many they are
            sizes = array.field("size")
        else:
            sizes = pc.binary_length(array)
            self.formats.update(arrow_values.formats(array))
        self.size.update(sizes)

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.size.merge(other.size)
        self.formats.update(other.formats)

    def result(self) -> dict[str, Any]:
        top = dict(sorted(self.formats.items(), key=lambda item: (-item[1], item[0])))
        return {**super().result(), "size": self.size.described(), "formats": top or None}


class VectorSketch(ColumnSketch):
    """Norms, the mean and variance of each dimension, and the distribution along a few fixed random directions."""

    kind = "vector"

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.bad = 0
        self.used = 0
        self.mean = np.zeros(dimension)
        self.squares = np.zeros(dimension)
        self.norm = NumberSketch()
        self.along = [NumberSketch() for _ in range(DIRECTIONS)]

    def _present(self, array: pa.Array) -> None:
        matrix = arrow_values.matrix(array, self.dimension)
        finite = np.isfinite(matrix).all(axis=1)
        if not finite.all():
            self.bad += int(len(matrix) - finite.sum())
            matrix = matrix[finite]
        if not len(matrix):
            return
        mean = matrix.mean(axis=0)
        self._moments(len(matrix), mean, ((matrix - mean) ** 2).sum(axis=0))
        self.norm.numbers(np.sqrt(np.einsum("ij,ij->i", matrix, matrix)))
        projected = matrix @ signs(self.dimension, DIRECTIONS)
        for sketch, values in zip(self.along, projected.T, strict=True):
            sketch.numbers(np.ascontiguousarray(values))

    def _moments(self, count: int, mean: Floats, squares: Floats) -> None:
        total, delta = self.used + count, mean - self.mean
        self.squares = self.squares + squares + delta**2 * (self.used * count / total)
        self.mean = self.mean + delta * (count / total)
        self.used = total

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.bad += other.bad
        if other.used:
            self._moments(other.used, other.mean, other.squares)
        self.norm.merge(other.norm)
        for mine, theirs in zip(self.along, other.along, strict=True):
            mine.merge(theirs)

    def result(self) -> dict[str, Any]:
        described: dict[str, Any] = {**super().result(), "dimension": self.dimension, "not_finite": self.bad}
        if self.used:
            described["mean"] = self.mean.tolist()
            described["std"] = np.sqrt(np.maximum(self.squares / self.used, 0)).tolist()
            described["norm"] = self.norm.described()
            described["along"] = [sketch.described()["fine"] for sketch in self.along]
        return described


class ListSketch(ColumnSketch):
    """Lengths of the lists, and their items as a column of their own."""

    kind = "list"

    def __init__(self, items: ColumnSketch) -> None:
        super().__init__()
        self.length = NumberSketch()
        self.items = items

    def _present(self, array: pa.Array) -> None:
        self.length.update(pc.list_value_length(array))
        self.items.update(array.flatten())

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.length.merge(other.length)
        self.items.merge(other.items)

    def result(self) -> dict[str, Any]:
        return {**super().result(), "length": self.length.described(), "items": self.items.result()}


class StructSketch(ColumnSketch):
    """Each field as a column of its own."""

    kind = "struct"

    def __init__(self, fields: dict[str, ColumnSketch]) -> None:
        super().__init__()
        self.fields = fields

    def _present(self, array: pa.Array) -> None:
        for sketch, child in zip(self.fields.values(), array.flatten(), strict=True):
            sketch.update(child)

    def merge(self, other: Any) -> None:
        super().merge(other)
        for name, sketch in self.fields.items():
            sketch.merge(other.fields[name])

    def result(self) -> dict[str, Any]:
        return {**super().result(), "fields": {name: sketch.result() for name, sketch in self.fields.items()}}

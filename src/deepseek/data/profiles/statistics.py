"""Reference statistics of a table: what a bundle stores, so that later data can be compared with what it learnt from.

Two passes over the batches, memory bounded whatever the table's size: the first finds ranges, moments, a random sample
for the quantiles and a sketch of the distinct values (k minimum values: Bar-Yossef et al. 2002); the second counts how
many values fall between the quantiles. The result is plain JSON; ``format`` names its version.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.errors import UnknownNameError

if TYPE_CHECKING:
    from deepseek.data.table import Table

FORMAT = "deepseek.statistics/1"
BINS = 10
SAMPLE = 100_000
LOW_CARDINALITY = 100
SKETCH = 1024
LENGTH_EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Left edges of the text-length bins, in characters; the last bin is open to the right."""

Floats = npt.NDArray[np.float64]


def profile(table: Table | pa.Table, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Statistics of each column as a JSON-able dict.

    ``{"format", "rows", "columns": {name: {"kind", "type", "count", "nulls", ...}}}`` where ``count`` are the non-null
    values and ``kind`` is ``"number"`` (min, max, mean, std, nan, edges, counts), ``"text"`` (length: min, max, mean,
    edges, counts; distinct, distinct_is_exact, top or null), ``"boolean"`` (top) or ``"other"``. ``edges`` of numbers
    are deciles, and ``counts[i]`` is the number of values in ``[edges[i], edges[i+1])``, the last bin closed.

    Raises:
        UnknownNameError: a column does not exist.
    """
    names = list(columns) if columns is not None else list(table.schema.names)
    for name in names:
        if name not in table.schema.names:
            raise UnknownNameError("column", name, table.schema.names)

    def scan(wanted: list[str]) -> Iterator[pa.RecordBatch]:
        if isinstance(table, pa.Table):
            return iter(table.select(wanted).to_batches(max_chunksize=8192))
        return table.batches(wanted)

    sketches = {name: _sketch_for(table.schema.field(name).type) for name in names}
    for batch in scan(names) if names else ():
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            sketches[name].first(array)
    numeric = [name for name in names if isinstance(sketches[name], _Number)]
    for batch in scan(numeric) if numeric else ():
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            sketches[name].second(array)
    described = {name: {"type": str(table.schema.field(name).type), **sketches[name].result()} for name in names}
    rows = table.num_rows if isinstance(table, pa.Table) else len(table)
    return {"format": FORMAT, "rows": rows, "columns": described}


class _Sketch(Protocol):
    def first(self, array: pa.Array) -> None: ...
    def second(self, array: pa.Array) -> None: ...
    def result(self) -> dict[str, Any]: ...


def _sketch_for(kind: pa.DataType) -> _Sketch:
    tests: list[tuple[Callable[[pa.DataType], bool], type[_Other]]] = [
        (pa.types.is_boolean, _Boolean),
        (pa.types.is_integer, _Number),
        (pa.types.is_floating, _Number),
        (pa.types.is_string, _Text),
        (pa.types.is_large_string, _Text),
    ]
    return next((sketch for test, sketch in tests if test(kind)), _Other)()


class _Other:
    """Counts only; the base of the others."""

    kind = "other"

    def __init__(self) -> None:
        self.count = 0
        self.nulls = 0

    def first(self, array: pa.Array) -> None:
        self.nulls += array.null_count
        self.count += len(array) - array.null_count

    def second(self, array: pa.Array) -> None:
        """Only numbers need a second pass."""

    def result(self) -> dict[str, Any]:
        return {"kind": self.kind, "count": self.count, "nulls": self.nulls}


class _Boolean(_Other):
    kind = "boolean"

    def __init__(self) -> None:
        super().__init__()
        self.true = 0

    def first(self, array: pa.Array) -> None:
        super().first(array)
        self.true += int(pc.sum(array).as_py() or 0)

    def result(self) -> dict[str, Any]:
        return {**super().result(), "top": {"true": self.true, "false": self.count - self.true}}


class _Number(_Other):
    kind = "number"

    def __init__(self) -> None:
        super().__init__()
        self.nan = 0
        self.used = 0
        self.mean = 0.0
        self.squares = 0.0
        self.low, self.high = math.inf, -math.inf
        self._random = np.random.default_rng(0)
        self._sample: Floats = np.empty(0)
        self._order: Floats = np.empty(0)
        self._edges: Floats | None = None
        self._counts = np.zeros(0, dtype=np.int64)

    def _values(self, array: pa.Array) -> Floats:
        values = np.asarray(array.drop_null().cast(pa.float64(), safe=False), dtype=np.float64)
        return values[np.isfinite(values)]

    def first(self, array: pa.Array) -> None:
        super().first(array)
        values = self._values(array)
        self.nan += len(array) - array.null_count - len(values)
        if not len(values):
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        # Chan et al. 1983: combine the moments of two parts without losing digits
        count, mean = len(values), float(values.mean())
        total, delta = self.used + count, mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + delta**2 * self.used * count / total
        self.mean += delta * count / total
        self.used = total
        sample = np.concatenate([self._sample, values])
        order = np.concatenate([self._order, self._random.random(count)])
        if len(sample) > SAMPLE:
            chosen = np.argpartition(order, SAMPLE)[:SAMPLE]
            sample, order = sample[chosen], order[chosen]
        self._sample, self._order = sample, order

    def second(self, array: pa.Array) -> None:
        values = self._values(array)
        if not len(values):
            return
        if self._edges is None:
            edges = np.quantile(self._sample, np.linspace(0, 1, BINS + 1))
            edges[0], edges[-1] = self.low, self.high
            self._edges = np.unique(edges)
            self._counts = np.zeros(max(len(self._edges) - 1, 1), dtype=np.int64)
        inner = self._edges[1:-1]
        self._counts += np.bincount(np.searchsorted(inner, values, side="right"), minlength=len(self._counts))

    def result(self) -> dict[str, Any]:
        described = {**super().result(), "nan": self.nan}
        if self.used:
            edges = self._edges if self._edges is not None else np.empty(0)
            described |= {"min": self.low, "max": self.high, "mean": self.mean}
            described["std"] = math.sqrt(self.squares / self.used)
            described |= {"edges": edges.tolist(), "counts": self._counts.tolist()}
        return described


class _Text(_Other):
    kind = "text"

    def __init__(self) -> None:
        super().__init__()
        self._lengths = np.zeros(len(LENGTH_EDGES), dtype=np.int64)
        self._chars = 0
        self._low, self._high = 0, 0
        self._top: Counter[str] | None = Counter()
        self._heap: list[int] = []
        self._members: set[int] = set()

    def first(self, array: pa.Array) -> None:
        before = self.count
        super().first(array)
        present = array.drop_null()
        if not len(present):
            return
        lengths = np.asarray(pc.utf8_length(present), dtype=np.int64)
        self._lengths += np.bincount(
            np.searchsorted(LENGTH_EDGES[1:], lengths, side="right"), minlength=len(self._lengths)
        )
        self._chars += int(lengths.sum())
        low = int(lengths.min())
        self._low = min(self._low, low) if before else low
        self._high = max(self._high, int(lengths.max()))
        for entry in pc.value_counts(present):
            value, count = entry["values"].as_py(), entry["counts"].as_py()
            self._remember(int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "big"))
            if self._top is not None:
                self._top[value] += count
                if len(self._top) > LOW_CARDINALITY:
                    self._top = None

    def _remember(self, code: int) -> None:
        if code in self._members:
            return
        if len(self._heap) < SKETCH:
            heapq.heappush(self._heap, -code)
            self._members.add(code)
        elif code < -self._heap[0]:
            self._members.discard(-heapq.heapreplace(self._heap, -code))
            self._members.add(code)

    def result(self) -> dict[str, Any]:
        full = len(self._heap) == SKETCH
        distinct = min(round((SKETCH - 1) / (-self._heap[0] / 2**64)), self.count) if full else len(self._heap)
        length: dict[str, Any] = {"edges": list(LENGTH_EDGES), "counts": self._lengths.tolist()}
        if self.count:
            length |= {"min": self._low, "max": self._high, "mean": self._chars / self.count}
        top = None if self._top is None else dict(sorted(self._top.items(), key=lambda item: (-item[1], item[0])))
        return {
            **super().result(),
            "length": length,
            "distinct": distinct,
            "distinct_is_exact": not full,
            "top": top,
        }

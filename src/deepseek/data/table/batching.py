"""How many rows go into a batch, so that a batch has a bounded size in bytes.

Lance decodes as many rows at a time as a scan's ``batch_size`` says, whatever their size, so memory is bounded by
choosing that number. The width of a row is known for columns of fixed width, and sampled for texts, lists and the like,
in each group of fragments anew, since rows may grow over a table's life.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BATCH_ROWS = 8192
BATCH_BYTES = 8 << 20
IO_BUFFER_BYTES = 32 << 20
SAMPLE_ROWS = 32
SAMPLE_GROUPS = 32

SCAN = {"io_buffer_size": IO_BUFFER_BYTES, "batch_readahead": 2, "fragment_readahead": 2}
"""What every scan is given, beside its batch size."""


def groups(dataset: Any) -> Iterator[list[Any]]:
    """The fragments in order, small neighbours together, since each group costs a scan of its own."""
    group: list[Any] = []
    rows = 0
    for fragment in dataset.get_fragments():
        if group and rows + fragment.physical_rows > 4 * BATCH_ROWS:
            yield group
            group, rows = [], 0
        group.append(fragment)
        rows += fragment.physical_rows
    if group:
        yield group


def batch_rows(group: Sequence[Any], schema: pa.Schema, columns: Sequence[str], limit: int = BATCH_ROWS) -> int:
    """How many rows of these ``columns`` (blobs not counted) make about :data:`BATCH_BYTES`, at most ``limit``."""
    fixed = 0
    sampled = []
    for name in columns:
        kind = schema.field(name).type
        if isinstance(kind, pa.BaseExtensionType):
            continue  # a scan moves only the descriptors of blobs
        width = _fixed_width(kind)
        if width is None:
            sampled.append(name)
        else:
            fixed += width
    if sampled:
        # the largest fragment speaks for its group; the widest of its samples keeps skewed rows in bounds
        fragment = max(group, key=lambda one: one.physical_rows)
        count = fragment.count_rows()
        if count:
            places = np.unique(np.linspace(0, count - 1, min(SAMPLE_ROWS, count)).astype(np.int64))
            sample = fragment.take(places.tolist(), columns=sampled)
            fixed += max(sample.nbytes // len(places), 1)
    return max(1, min(limit, BATCH_BYTES // max(fixed, 1)))


def batch_rows_with_blobs(dataset: Any, schema: pa.Schema) -> int:
    """Rows of whole batches, blobs included, for what reads bytes and descriptors at one size; by the widest group."""
    rows = BATCH_ROWS
    pieces = list(groups(dataset))
    for group in pieces[:: max(1, len(pieces) // SAMPLE_GROUPS)]:
        rows = min(rows, batch_rows(group, dataset.schema, schema.names))
        blobs = [field.name for field in dataset.schema if isinstance(field.type, pa.BaseExtensionType)]
        if not blobs:
            continue
        described = dataset.scanner(columns=blobs, fragments=group, limit=256).to_table()
        sizes = [pc.sum(pc.struct_field(column.combine_chunks(), "size")).as_py() or 0 for column in described.columns]
        rows = min(rows, BATCH_BYTES * described.num_rows // max(1, sum(sizes)))
    return max(1, rows)


def _fixed_width(kind: pa.DataType) -> int | None:
    if pa.types.is_fixed_size_list(kind):
        inner = _fixed_width(kind.value_type)
        return None if inner is None else inner * kind.list_size
    if pa.types.is_struct(kind):
        widths = [_fixed_width(kind.field(index).type) for index in range(kind.num_fields)]
        return None if None in widths else sum(width for width in widths if width is not None)
    try:
        return (int(kind.bit_width) + 7) // 8
    except ValueError:
        return None

"""From a source into a table, with the rows that could not be read beside it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.data.sources.base import Reject, Source, refuse
from deepseek.data.sources.registry import open_source
from deepseek.data.table import Table
from deepseek.data.table.rejects import rejects_path, write_rejects
from deepseek.errors import DataError

REJECTS_SCHEMA = pa.schema(
    [("reason", pa.string()), ("source", pa.string()), ("line", pa.int64()), ("raw", pa.string())]
)
_SPOOL_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What an ingest did: rows written and rejected, reasons with their counts, and where both tables are."""

    source: str
    table: str
    version: int
    rows: int
    rejected: int
    reasons: dict[str, int] = field(default_factory=dict)
    rejects_table: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


class _Spool:
    """Rejects kept outside memory until the table's rows are written."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self._file = tempfile.SpooledTemporaryFile(_SPOOL_BYTES, mode="w+", encoding="utf-8")  # noqa: SIM115

    def add(self, reject: Reject) -> None:
        self.reasons[reject.reason] += 1
        self._file.write(json.dumps(asdict(reject)) + "\n")

    def rows(self) -> Iterator[dict[str, Any]]:
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)

    def close(self) -> None:
        self._file.close()


def ingest(
    source: Source | str | Path,
    table_path: str | Path,
    *,
    strict: bool = False,
    overwrite: bool = False,
    metadata: Mapping[str, str] | None = None,
    **options: Any,
) -> IngestReport:
    """Write all rows of ``source`` to a new table at ``table_path``.

    Rows that cannot be read go to the table ``NAME.rejects.lance`` beside it (columns reason, source, line, raw), which
    is written before the table becomes visible, so that a table never exists without its rejects.

    Args:
        source: an open source, or a path or data set name for :func:`open_source` together with ``options``.
        strict: raise at the first row that cannot be read; nothing is written then.
        overwrite: write a new version if the table exists.
        metadata: facts to keep with the table, beside the source's own.

    Raises:
        DataError: the source is missing, empty or has no readable row; with ``strict``, a row cannot be read.
        TableError: the table exists, or cannot be written.
    """
    opened = source if isinstance(source, Source) else open_source(source, **options)
    spool = _Spool()
    count = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal count
        for batch in opened.batches(refuse if strict else spool.add):
            count += batch.num_rows
            yield batch

    def finish() -> None:
        if not count:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in spool.reasons.most_common(3))
            raise DataError(f"{opened.name} has no readable rows" + (f": {reasons}" if reasons else ""))
        write_rejects(table_path, spool.rows(), REJECTS_SCHEMA, count=spool.reasons.total())

    try:
        schema = opened.schema()
        table = Table.create(
            table_path,
            pa.RecordBatchReader.from_batches(schema, counted()),
            schema=schema,
            overwrite=overwrite,
            metadata={**opened.metadata, **(metadata or {})},
            description=f"ingest {opened.name}",
            before_commit=finish,
        )
    finally:
        spool.close()
    rejected = spool.reasons.total()
    return IngestReport(
        source=opened.name,
        table=table.path,
        version=table.version,
        rows=count,
        rejected=rejected,
        reasons=dict(spool.reasons.most_common()),
        rejects_table=rejects_path(table_path) if rejected else None,
    )

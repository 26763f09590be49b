"""One write to a table, in two steps: data files first, then one manifest that makes them visible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import lance
import pyarrow as pa
from lance.fragment import write_fragments

from deepseek import progress
from deepseek.data.table import location
from deepseek.data.table.lance_errors import write_error
from deepseek.data.table.rows import RowsLike, stream
from deepseek.errors import TableError


def write_transaction(
    path: str,
    target: Any,
    rows: RowsLike,
    schema: pa.Schema | None,
    mode: Literal["create", "append", "overwrite"],
    metadata: Mapping[str, str],
    description: str | None,
    before_commit: Callable[[], object] | None,
) -> Any:
    """Write data files, then commit them in one transaction; returns the new Lance data set."""
    purpose = f"{'append to' if mode == 'append' else 'write'} {path}"
    batches = stream(rows, schema, purpose=purpose)
    batches.schema = batches.schema.with_metadata(dict(metadata))
    fresh = not location.is_remote(path) and not Path(path).exists()
    committed = False
    try:
        with progress.bar(description or f"write {Path(path).name}", batches.total) as bar:
            reader = batches.reader(bar.advance)
            transaction = write_fragments(reader, target, mode=mode, return_transaction=True)
        if before_commit is not None:
            before_commit()
        dataset = lance.LanceDataset.commit(target, transaction)
        committed = True
        return dataset
    except (ValueError, OSError) as error:
        if batches.error is not None:
            raise batches.error from None  # Lance wraps what the rows' iterator raised into an OSError of its own
        if isinstance(error, TableError):
            raise
        raise write_error(error, path, mode) from error
    finally:
        if fresh and not committed:
            location.remove_leftovers(path)


def table_exists(path: str) -> bool:
    """Whether a committed table lies at ``path``."""
    if not location.is_remote(path):
        return location.inspect(path) is location.Found.TABLE
    try:
        lance.dataset(path)
    except ValueError:
        return False
    return True

"""Housekeeping: fewer and larger files, and no more old versions than needed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lance.optimize import Compaction

from deepseek import progress
from deepseek.data.engines import Engine, get_engine
from deepseek.data.table import batching, storage
from deepseek.data.table.handle import TableHandle
from deepseek.data.table.heap import small_heap
from deepseek.data.table.lance_errors import translated
from deepseek.data.table.lance_io import open_dataset
from deepseek.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CompactionReport:
    """What :meth:`Table.compact` did. Bytes are those of the data files that a version uses, blobs' side files too."""

    version: int
    fragments_before: int
    fragments_after: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, kw_only=True)
class CleanupReport:
    """What :meth:`Table.cleanup` removed."""

    versions_removed: int
    files_removed: int
    bytes_removed: int


class MaintenanceMixin(TableHandle):
    """The housekeeping part of :class:`Table`."""

    def compact(self, *, rows_per_fragment: int = 1 << 20, engine: str | Engine = "local") -> CompactionReport:
        """Join small fragments and drop deleted rows from the files, as a new version with the same content and order.

        Nothing to do makes no version. Older versions keep their files until :meth:`cleanup`. Appends by others while
        this runs are combined with it. Memory is bounded by a few batches for each worker.

        Args:
            rows_per_fragment: fragments of fewer rows than this are joined.
            engine: where the fragments are rewritten.

        Raises:
            ConflictError: another writer changed the rows that were being rewritten; nothing happened.
        """
        if rows_per_fragment < 1:
            raise ConfigError(f"rows_per_fragment: expected at least 1, received {rows_per_fragment}")
        self._follow()
        dataset = self._dataset
        before = _footprint(dataset)
        options = {
            "target_rows_per_fragment": rows_per_fragment,
            "num_threads": 1,
            "materialize_deletions_threshold": 0,
        }
        with translated("compact", self.path):
            options["batch_size"] = batching.batch_rows_with_blobs(dataset, self.schema)
            options["io_buffer_size"] = batching.IO_BUFFER_BYTES
            plan = Compaction.plan(dataset, options)
            tasks: Sequence[Any] = plan.tasks
            if tasks:
                run = partial(_rewrite, self.path, self.version, storage.options_for(self.path))
                results = []
                with small_heap(), progress.bar(f"compact {self.path}", len(tasks), unit="tasks") as bar:
                    for result in get_engine(engine).map(run, tasks):
                        results.append(result)
                        bar.advance()
                Compaction.commit(dataset, results)
        if tasks:
            self.refresh()
        after = _footprint(self._dataset)
        return CompactionReport(
            version=self.version,
            fragments_before=before[0],
            fragments_after=after[0],
            files_before=before[1],
            files_after=after[1],
            bytes_before=before[2],
            bytes_after=after[2],
        )

    def cleanup(self, *, older_than: dt.timedelta | None = None, keep: int | None = None) -> CleanupReport:
        """Remove old versions and the files that only they use. The newest version and tagged versions always stay.

        Args:
            older_than: remove versions of at least this age; two weeks when neither this nor ``keep`` is given.
            keep: keep at least this many of the newest versions, whatever their age.

        Files of writes that never committed are removed once they are a week old, so that writers at work are safe.
        """
        if older_than is not None and older_than < dt.timedelta(0):
            raise ConfigError(f"older_than: expected 0 or more, received {older_than}")
        if keep is not None and keep < 1:
            raise ConfigError(f"keep: expected at least 1, received {keep}")
        # a microsecond is what Lance can tell from "not given"
        age = max(older_than, dt.timedelta(microseconds=1)) if older_than is not None else None
        with translated("cleanup", self.path):
            done = self._dataset.cleanup_old_versions(
                older_than=age, retain_versions=keep, error_if_tagged_old_versions=False
            )
        removed = done.data_files_removed + done.deletion_files_removed + done.index_files_removed
        return CleanupReport(
            versions_removed=int(done.old_versions), files_removed=int(removed), bytes_removed=int(done.bytes_removed)
        )

    def size(self) -> int:
        """Bytes of the data files that this version uses, in storage."""
        return _footprint(self._dataset)[2]


def _rewrite(path: str, version: int, options: dict[str, str] | None, task: Any) -> Any:
    return task.execute(open_dataset(path, version, options))


def _footprint(dataset: Any) -> tuple[int, int, int]:
    """Fragments, data files and bytes of a version."""
    fragments = dataset.get_fragments()
    stems = {file.path.removesuffix(".lance") for fragment in fragments for file in fragment.data_files()}
    files = size = 0
    for batch in dataset.all_files():
        for path, length in zip(batch.column("path").to_pylist(), batch.column("size_bytes").to_pylist(), strict=True):
            folder, _, name = path.partition("/")
            # blobs' side files lie in a folder named like the data file
            if folder == "data" and name.partition("/")[0].removesuffix(".lance") in stems:
                files += 1
                size += length
    return len(fragments), files, size

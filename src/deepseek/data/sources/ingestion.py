"""From a source into a table, with the rows that could not be read beside it.

An ingest reads the source in steps of about :data:`STEP_BYTES`. Each step writes data files of its own, and a journal
notes it; one commit at the end makes all of them the table. Killed at any moment and run again, the same call goes on
behind the last finished step and ends in the same table, with one version. A source in parts (files, row groups, ranges
of an image folder) has its parts read at the same time by the workers of an engine, and keeps the order of its rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from deepseek import progress
from deepseek.data.engines import Engine, get_engine
from deepseek.data.sources.base import Source
from deepseek.data.sources.journal import Journal
from deepseek.data.sources.registry import open_source
from deepseek.data.sources.steps import Step, run_step, table_schema, unmarked
from deepseek.data.table import Table, location, storage
from deepseek.data.table.blobs import stored_schema
from deepseek.data.table.fingerprint import fingerprint
from deepseek.data.table.lance_errors import LANCE_ERRORS, cause, write_error
from deepseek.data.table.lance_io import open_dataset
from deepseek.data.table.rejects import rejects_path, write_rejects
from deepseek.data.table.rows import stream
from deepseek.data.table.transaction import table_exists
from deepseek.errors import DataError, DeepSeekError, TableError

REJECTS_SCHEMA = pa.schema(
    [("reason", pa.string()), ("source", pa.string()), ("line", pa.int64()), ("raw", pa.string())]
)
STEP_BYTES = 256 << 20
"""How much a step writes before the journal notes it: what an interruption costs at most, for each worker."""


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What an ingest did: rows written and rejected, reasons with their counts, and where both tables are.

    ``continued`` says that an interrupted run was found and went on; the counts are those of the whole table.
    """

    source: str
    table: str
    version: int
    rows: int
    rejected: int
    reasons: dict[str, int] = field(default_factory=dict)
    rejects_table: str | None = None
    continued: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


def ingest(
    source: Any,
    table_path: str | Path,
    *,
    strict: bool = False,
    overwrite: bool = False,
    metadata: Mapping[str, str] | None = None,
    engine: str | Engine = "local",
    resume: bool = True,
    blobs: Sequence[str] | None = None,
    storage_options: Mapping[str, str] | None = None,
    **options: Any,
) -> IngestReport:
    """Write all rows of ``source`` to a new table at ``table_path``.

    Rows that cannot be read go to the table ``NAME.rejects.lance`` beside it (columns reason, source, line, raw), which
    is written before the new rows become visible. Run again after a crash, a lost connection or Ctrl-C, the same call
    goes on where it stopped; a source or option that has changed since then makes it start over, and it says so.

    Args:
        source: an open source, or anything that :func:`open_source` takes together with ``options``.
        strict: raise at the first row that cannot be read; nothing is written then.
        overwrite: write a new version if the table exists.
        metadata: facts to keep with the table, beside the source's own.
        engine: where the parts of a source are read: ``"local"`` (threads) or ``"ray"``; the table is the same.
        resume: ``False`` forgets an interrupted run instead of going on.
        blobs: binary columns to store as blobs; when absent, those of which the first values have 4 kB or more.
        storage_options: how to reach an object store, as for :meth:`Table.create`.

    Raises:
        DataError: the source is missing, empty or has no readable row; with ``strict``, a row cannot be read.
        TableError: the table exists, cannot be written, or is being ingested into by another process.
    """
    opened = source if isinstance(source, Source) else open_source(source, **options)
    where = location.normalise(table_path)
    storage.options_for(where, storage_options)
    journal = Journal(where)
    if not overwrite and not journal.path.exists():
        journal.tidy()
        _require_free(where)  # before anything is made beside the table
    with journal.locked():
        run = _Run(
            source=opened,
            where=where,
            journal=journal,
            strict=strict,
            overwrite=overwrite,
            metadata=metadata or {},
            engine=get_engine(engine),
            blobs=blobs,
        )
        return run.report(resume)


class _Run:
    """One call of :func:`ingest`."""

    def __init__(
        self,
        *,
        source: Source,
        where: str,
        journal: Journal,
        strict: bool,
        overwrite: bool,
        metadata: Mapping[str, str],
        engine: Engine,
        blobs: Sequence[str] | None,
    ) -> None:
        self.source, self.where, self.journal, self.blobs = source, where, journal, blobs
        self.strict, self.overwrite, self.engine = strict, overwrite, engine
        self.metadata = {**source.metadata, **metadata}

    def report(self, resume: bool) -> IngestReport:
        identity = self._identity()
        found = self.journal.load()
        if found and (version := self.journal.committed()) is not None:
            # the last run was stopped behind its commit: all that was left is to tidy up
            if self._is_ours(identity):
                return self._finished(version, continued=True)
            self.journal.close()
            found = False
        if not self.overwrite:
            _require_free(self.where)
        known = found and resume and self._can_go_on(identity)
        continued = known and self.journal.progress.steps > 0
        try:
            if known:
                self.source.remember(unmarked(self.journal.schema))
                self.journal.sweep()
            else:
                self.journal.discard()
                schema = table_schema(self.source, self.blobs, f"write {self.where}")
                self.journal.begin(identity or "", schema, _version(self.where))
            self._write()
            version = self._commit()
        except BaseException as error:
            self._stopped(error)
            raise
        return self._finished(version, continued=continued)

    def _identity(self) -> str | None:
        facts = self.source.identity()
        if facts is None:
            return None
        text = json.dumps({"source": facts, "strict": self.strict, "blobs": self.blobs}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _is_ours(self, identity: str | None) -> bool:
        assert self.journal.header is not None
        return identity is not None and self.journal.header["identity"] == identity

    def _can_go_on(self, identity: str | None) -> bool:
        """Whether the journal is of this ingest; says why when it is not."""
        header = self.journal.header
        assert header is not None
        if identity is None:
            reason = f"{self.source.name} cannot be told from a changed one"
        elif header["identity"] != identity:
            reason = "the source or the options have changed since then"
        elif header["base"] != _version(self.where):
            reason = "the table has changed since then"
        elif not self.journal.intact():
            reason = "its data files are gone or damaged"
        else:
            return True
        if self.journal.progress.steps:
            say(f"an interrupted ingest into {self.where} is not continued: {reason}; starting over")
        return False

    def _write(self) -> None:
        parts = self.source.parts()
        schema = self.journal.schema.with_metadata(self.metadata)
        options = storage.options_for(self.where)
        done = self.journal.progress
        left = [number for number in range(len(parts)) if done.positions.get(number, ()) is not None]
        mode = "overwrite" if _version(self.where) is not None else "create"
        run = self.engine.map if self.source.travels else map
        width = 2 * self.engine.workers if self.source.travels else 1
        if not location.is_remote(self.where):
            Path(self.where).absolute().parent.mkdir(parents=True, exist_ok=True)
        with progress.bar(f"ingest {self.source.name}") as bar:
            bar.advance(done.rows)
            while left:
                # one step of each of the next parts at a time: finished parts make room for the ones behind them
                steps = [
                    Step(
                        part=number,
                        source=parts[number],
                        start=done.positions.get(number),
                        target=self.where,
                        mode=mode,
                        schema=schema,
                        strict=self.strict,
                        limit=STEP_BYTES,
                        options=options,
                        alone=len(left) == 1 or width == 1,
                    )
                    for number in left[:width]
                ]
                for result in run(run_step, steps):
                    self.journal.record(result)
                    bar.advance(result.rows)
                left = [number for number in left if done.positions.get(number, ()) is not None]

    def _commit(self) -> int:
        done = self.journal.progress
        if not done.rows:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in done.reasons.most_common(3))
            raise DataError(f"{self.source.name} has no readable rows" + (f": {reasons}" if reasons else ""))
        self._write_rejects()
        schema = stored_schema(self.journal.schema.with_metadata(self.metadata))
        operation = lance.LanceOperation.Overwrite(schema, done.ordered())
        base = _version(self.where)
        try:
            dataset = lance.LanceDataset.commit(
                self.where,
                operation,
                read_version=base,
                storage_options=storage.options_for(self.where),
                max_retries=0,
            )
        except LANCE_ERRORS as error:
            raise write_error(error, self.where, "create" if base is None else "overwrite") from cause(error)
        return int(dataset.version)

    def _write_rejects(self) -> None:
        """Write the rejects, unless a run that was stopped before its commit has written the same already."""
        path = rejects_path(self.where)
        if not location.is_remote(path):
            location.remove_leftovers(path)
        if table_exists(path):
            fresh = stream(self.journal.rejects(), REJECTS_SCHEMA, purpose="rejects").reader(lambda _rows: None)
            if fingerprint(REJECTS_SCHEMA, fresh) == Table.open(path).fingerprint():
                return
        write_rejects(self.where, self.journal.rejects(), REJECTS_SCHEMA, count=self.journal.progress.reasons.total())

    def _stopped(self, error: BaseException) -> None:
        """Keep what can be gone on from; a source that is wrong leaves nothing behind."""
        ours = isinstance(error, DeepSeekError) and not isinstance(error, TableError)
        if ours or not self.journal.progress.steps or self.source.identity() is None:
            self.journal.discard()
        else:
            say(f"{self.journal.progress.rows:,} rows are kept for the next run: the same ingest goes on from there")

    def _finished(self, version: int, *, continued: bool) -> IngestReport:
        done = self.journal.progress
        rejected = done.reasons.total()
        report = IngestReport(
            source=self.source.name,
            table=self.where,
            version=version,
            rows=done.rows,
            rejected=rejected,
            reasons=dict(done.reasons.most_common()),
            rejects_table=rejects_path(self.where) if rejected else None,
            continued=continued,
        )
        self.journal.close()
        return report


def say(text: str) -> None:
    """Tell the user something that matters more than a progress bar."""
    progress.console().print(f"  {text}", style="yellow", highlight=False)


def _version(where: str) -> int | None:
    return int(open_dataset(where).version) if table_exists(where) else None


def _require_free(where: str) -> None:
    if not location.is_remote(where):
        location.require_free(where)
    elif table_exists(where):
        raise TableError(f"there is a table at {where} already; use overwrite=True to write a new version of it")

"""Materialisation: the latest visible row of every key, from a view's table into an online store.

What a run does depends on what changed in the table since the last one
(:mod:`deepseek.data.features.table_changes`), not on time columns, so late rows with old event times are found:

- new rows are merged into the store; compaction and new columns cost nothing;
- rows that had not become visible yet are remembered by fragment and read again once ``until`` has moved on;
- where a row that was removed or replaced in the table is the one that is online, its key is searched again; if
  there are too many such keys, or the table was replaced, or the old version is gone, or ``until`` went back,
  everything is written anew: in a new epoch, whose records win over all others, which are swept at the end. Readers
  are served throughout.

Progress is stored with the data. A run that is killed is taken up by the next one, at the last piece that it stored;
pieces may repeat, as the store merges by maximum. Two runs at the same time cannot harm the store: the one that is
overtaken stops with :class:`StaleWriteError`. Memory is bounded by a few pieces of some 32 MB, and by ``MOST_REPAIRED``
keys.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lance
import msgspec
import pyarrow as pa

from deepseek.data.engines import Engine, get_engine
from deepseek.data.features.latest import Found, Source, find_latest, pieces, removed_keys, source_of
from deepseek.data.features.materialization_progress import Job, Mark, Progress, decode_progress, plan
from deepseek.data.features.online import OnlineStore, Space, State, open_online_store
from deepseek.data.features.online.record import epoch_prefix, table_version, times
from deepseek.data.features.online.store import KeyRecord
from deepseek.data.features.online.values import storage_type
from deepseek.data.features.table_changes import Changes, Manifest, changes
from deepseek.data.features.view import FeatureView

MOST_REPAIRED = 200_000
"""More keys than these to search again: writing everything anew is faster, and memory stays bounded."""
_WRITE_RECORDS = 20_000
_WRITE_BYTES = 32 << 20
_REPAIR_KEYS = 1000


@dataclass(frozen=True, kw_only=True)
class MaterializationReport:
    """What a run did.

    Attributes:
        view: name and version of the view, as ``people@1``.
        from_version: the table's version that was in the store before; ``None`` the first time.
        to_version: the table's version that is in the store now.
        until: rows visible at this time are in the store (UTC).
        rows_read: rows of the table that were looked at.
        keys_written: keys that got another record, counted once for each write.
        keys_removed: keys that have no visible row any more.
        rebuilt: why everything was written anew; ``None`` if it was not.
        seconds: wall time.
    """

    view: str
    from_version: int | None
    to_version: int
    until: dt.datetime
    rows_read: int
    keys_written: int
    keys_removed: int
    rebuilt: str | None
    seconds: float


def materialize(
    view: FeatureView,
    online: OnlineStore | str | Path,
    *,
    until: dt.datetime | None = None,
    engine: str | Engine = "local",
) -> MaterializationReport:
    """Bring an online store up to date with a view's table.

    Args:
        online: an open store, or its path or address.
        until: the latest rows visible at this time; naive is UTC; by default now. Later rows follow in a later run.
        engine: where the table is read; the store is written by this process.

    Raises:
        StaleWriteError: another run materialised the view at the same time; run again.
        OnlineStoreError: the store cannot be reached or written.
        ConfigError: a feature's type cannot be stored online.
    """
    started = time.monotonic()
    store = open_online_store(online)
    try:
        run = _Run(view, store, get_engine(engine))
        report = run.report(None if until is None else _microseconds(until))
        return replace(report, seconds=time.monotonic() - started)
    finally:
        if store is not online:
            store.close()


class _Run:
    """One run. ``progress`` is what the store has; :meth:`_save` changes both together."""

    def __init__(self, view: FeatureView, store: OnlineStore, engine: Engine) -> None:
        self.view, self.store, self.engine = view, store, engine
        self.space = Space(view.name, view.version)
        table = view.open()
        view.validate_schema(table.schema)
        self.source = source_of(view, table.schema, table.path, table.version)
        self.schema = pa.schema([table.schema.field(name) for name in self.source.columns]).remove_metadata()
        for field in self.schema:
            storage_type(field.type, field.name)
        self.plan = plan(self.schema, (view.entities, view.event_time, view.created_time, self.source.features))
        state = store.state(self.space)
        self.sequence = state.sequence if state else 0
        self.progress = decode_progress(state.progress) if state else Progress(plan=self.plan, epoch=0, schemas={})
        self.rows_read = self.keys_written = self.keys_removed = 0
        self.rebuilt: str | None = None

    def report(self, until: int | None) -> MaterializationReport:
        before = self.progress.done.version if self.progress.done else None
        if self.progress.job is not None:
            self._resume(self.progress.job, until)
        done = self.progress.done
        if until is None:
            until = max(time.time_ns() // 1000, done.until if done else 0)  # clocks of two machines differ
        self._advance(done, until)  # also at the same version number: a table that was made anew has it, too
        return MaterializationReport(
            view=str(self.space),
            from_version=before,
            to_version=self.source.version,
            until=_EPOCH + dt.timedelta(microseconds=until),
            rows_read=self.rows_read,
            keys_written=self.keys_written,
            keys_removed=self.keys_removed,
            rebuilt=self.rebuilt,
            seconds=0.0,
        )

    def _resume(self, job: Job, until: int | None) -> None:
        """Finish what an earlier run began, unless it cannot be finished: then everything is written anew."""
        manifest = self._manifest(job.version, job.signature)
        done = self.progress.done
        if self.progress.plan != self.plan or manifest is None or (until is not None and until < job.until):
            self._drop_done()
        elif job.rebuild:
            self.rebuilt = "an interrupted run wrote everything anew"
            self._rebuild(manifest, job)
        elif done is not None:
            before = self._manifest(done.version, done.signature)
            if before is None:
                self._drop_done()
            else:
                self._increment(manifest, job, done, changes(self.source.path, before, manifest))

    def _drop_done(self) -> None:
        self.progress = msgspec.structs.replace(self.progress, done=None, job=None)
        self.rebuilt = "an interrupted run could not be taken up"

    def _advance(self, done: Mark | None, until: int) -> None:
        """Bring the store to the table's newest version and ``until``."""
        manifest = self._manifest(self.source.version)
        assert manifest is not None
        job = Job(version=manifest.version, signature=manifest.signature(), until=until, rebuild=False)
        before = self._manifest(done.version, done.signature) if done else None
        same_plan = self.progress.plan == self.plan
        if done and same_plan and (done.version, done.signature, done.until) == (job.version, job.signature, until):
            return
        if done is None or before is None or not same_plan or until < done.until:
            if self.progress.epoch and self.rebuilt is None:
                self.rebuilt = self._reason(done, until)
            self._rebuild(manifest, msgspec.structs.replace(job, rebuild=True))
        else:
            self._increment(manifest, job, done, changes(self.source.path, before, manifest))

    def _reason(self, done: Mark | None, until: int) -> str:
        if done is None or self.progress.plan != self.plan:
            return "the view's columns changed"
        if until < done.until:
            return f"until went back from {_EPOCH + dt.timedelta(microseconds=done.until)}"
        return f"version {done.version} of the table is gone, or the table was replaced"

    def _rebuild(self, manifest: Manifest, job: Job) -> None:
        epoch = first = self.progress.epoch
        if self.progress.job != job:  # a new job, so a new epoch
            epoch = max(epoch + 1, time.time_ns() // 1000)  # never one that a cleared space had
            schemas = self.progress.schemas | {epoch: self.schema.serialize().to_pybytes()}
            self._save([], plan=self.plan, epoch=epoch, schemas=schemas, done=None, job=job)
        job = self._merge(job, [(number, None) for number in manifest.fragments])
        if len(self.progress.schemas) > 1 or first == epoch:
            self.keys_removed += self.store.sweep(self.space, epoch_prefix(epoch), state=self._next(self.progress))
            self.sequence += 1
        self._finish(job, {epoch: self.progress.schemas[epoch]})

    def _increment(self, manifest: Manifest, job: Job, done: Mark, changed: Changes) -> None:
        late = {now for number in done.pending for now in changed.moved.get(number, ())} - set(changed.unseen)
        if job.until == done.until:
            carried, again = late, set[int]()
        else:
            carried, again = set[int](), late
        wanted: list[tuple[int, int | None]] = [(number, None) for number in changed.unseen]
        wanted += [(number, done.until) for number in sorted(again)]
        if self.progress.job is None:
            job = msgspec.structs.replace(job, pending=tuple(sorted(carried)))
            if wanted or changed.removed:
                self._save([], job=job)
        job = self._merge(job, wanted)
        if changed.removed and not self._repair(manifest, job, done, changed):
            self.rebuilt = f"more than {MOST_REPAIRED:,} keys lost the row that was online"
            fresh = Job(version=job.version, signature=job.signature, until=job.until, rebuild=True)
            self._rebuild(manifest, fresh)
            return
        self._finish(job, self.progress.schemas)

    def _merge(self, job: Job, wanted: list[tuple[int, int | None]]) -> Job:
        """Read the fragments piece by piece, and write what is found together with how far that is."""
        work = pieces(self._at(job.version, job.signature), wanted, job.until, self.progress.epoch, job.reached)
        pending = set(job.pending)
        records: list[KeyRecord] = []
        size = 0
        for piece, found in zip(work, self._search(work, f"materialize {self.space}"), strict=True):
            if found.pending:
                pending.add(found.fragment)
            records += found.records
            size += sum(len(record) for _, record in found.records)
            if len(records) >= _WRITE_RECORDS or size >= _WRITE_BYTES or piece is work[-1]:
                reached = (piece.order, piece.start)
                job = msgspec.structs.replace(job, reached=reached, pending=tuple(sorted(pending)))
                self.keys_written += self._save(records, job=job)
                records, size = [], 0
        return job

    def _repair(self, manifest: Manifest, job: Job, done: Mark, changed: Changes) -> bool:
        """Search the keys again whose online row is gone from the table; ``False`` when they are too many."""
        before, now = self._at(done.version, done.signature), self._at(job.version, job.signature)
        lost: set[bytes] = set()
        for keys, removed in removed_keys(before, now, changed.removed):
            for key, gone, record in zip(keys, removed, self.store.read(self.space, keys), strict=True):
                # a record of this version is of a row that is there; one with other times is of another row
                if record is not None and times(record) == gone and table_version(record) != job.version:
                    lost.add(key)
            if len(lost) > MOST_REPAIRED:
                return False
        if not lost:
            return True
        best: dict[bytes, bytes] = {}
        work = pieces(now, [(n, None) for n in manifest.fragments], job.until, self.progress.epoch)
        for found in self._search(work, f"repair {self.space}", frozenset(lost)):
            for key, record in found.records:
                best[key] = max(record, best.get(key, b""))
        ordered = sorted(lost)
        for start in range(0, len(ordered), _REPAIR_KEYS):
            keys = ordered[start : start + _REPAIR_KEYS]
            self._save([(key, best[key]) for key in keys if key in best], remove=keys)
        self.keys_written += len(best)
        self.keys_removed += len(lost) - len(best)
        return True

    def _search(self, work: list[Any], description: str, only: frozenset[bytes] | None = None) -> Iterable[Found]:
        for found in self.engine.map(find_latest, work, shared=only, description=description):
            self.rows_read += found.rows
            yield found

    def _finish(self, job: Job, schemas: dict[int, bytes]) -> None:
        mark = Mark(version=job.version, signature=job.signature, until=job.until, pending=job.pending)
        self._save([], done=mark, job=None, schemas=schemas)

    def _save(self, records: list[KeyRecord], *, remove: Iterable[bytes] = (), **changed: Any) -> int:
        progress = msgspec.structs.replace(self.progress, **changed)
        written = self.store.write(self.space, records, remove=list(remove), state=self._next(progress))
        self.sequence += 1
        self.progress = progress
        return written

    def _next(self, progress: Progress) -> State:
        return State(self.sequence + 1, progress.encode())

    def _at(self, version: int, signature: str) -> Source:
        return replace(self.source, version=version, signature=signature)

    def _manifest(self, version: int, signature: str | None = None) -> Manifest | None:
        """A version's manifest; ``None`` when it is gone, or not the one with the signature."""
        try:
            manifest = Manifest(lance.dataset(self.source.path, version=version), self.source.columns)
        except (ValueError, OSError, KeyError):
            return None
        return manifest if signature in (None, manifest.signature()) else None


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _microseconds(moment: dt.datetime) -> int:
    aware = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
    return (aware - _EPOCH) // dt.timedelta(microseconds=1)

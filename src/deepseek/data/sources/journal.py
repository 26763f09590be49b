"""The journal of an ingest: what is written already, so that an interrupted one goes on instead of starting over.

A text file beside the table (``.NAME.ingest/journal.jsonl``; for tables in an object store, in the user's cache),
one JSON object a line. The first line says of which source and options it is; each further line is one finished step:
the data files that it wrote, which no table refers to yet, how far it read, and what it rejected. A line is flushed to
the disk before the next step begins; a line that a crash cut short is dropped. The journal goes when the table's one
commit is done. A lock keeps a second ingest into the same table out.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from lance.file import LanceFileSession
from lance.fragment import FragmentMetadata

from deepseek.artifacts import cache_dir
from deepseek.data.sources.base import Position, Reject
from deepseek.data.table import location, storage
from deepseek.data.table.lance_io import open_dataset
from deepseek.data.table.transaction import table_exists
from deepseek.errors import TableError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """One finished step: ``fragments`` as Lance's JSON, ``position`` where the part goes on (``None`` when done)."""

    part: int
    fragments: list[str]
    rows: int
    rejects: list[Reject]
    position: Position | None


@dataclass
class Progress:
    """What the journal holds: for each part its fragments and position, and where its rejects stand in the file."""

    fragments: dict[int, list[str]] = field(default_factory=dict)
    positions: dict[int, Position | None] = field(default_factory=dict)
    rejects_at: list[tuple[int, int]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    steps: int = 0

    def ordered(self) -> list[Any]:
        """All fragments in the order of the rows."""
        parts = sorted(self.fragments)
        return [FragmentMetadata.from_json(text) for part in parts for text in self.fragments[part]]

    def add(self, entry: Mapping[str, Any], offset: int) -> None:
        """Count one journal line, which begins at ``offset`` of the file."""
        part = int(entry["part"])
        self.fragments.setdefault(part, []).extend(entry["fragments"])
        self.positions[part] = entry["position"]
        self.rows += entry["rows"]
        self.steps += 1
        if entry["rejects"]:
            self.rejects_at.append((part, offset))
            self.reasons.update(reject[0] for reject in entry["rejects"])


class Journal:
    """The journal of the table at ``where`` (normalised); use it inside ``with journal.locked():``."""

    def __init__(self, where: str) -> None:
        self.where = where
        if location.is_remote(where):
            self.folder = cache_dir() / "ingests" / hashlib.sha256(where.encode()).hexdigest()[:32]
        else:
            path = Path(where)
            self.folder = path.parent / f".{path.name}.ingest"
        self.path = self.folder / "journal.jsonl"
        self.header: dict[str, Any] | None = None
        self.progress = Progress()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other ingests into the table out; raises :class:`TableError` when one is running."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TableError(f"cannot write beside {self.where}: {error}") from error
        lock = _lock(self.folder / "lock")
        if lock is None:
            raise TableError(f"another ingest into {self.where} is running; wait for it, or choose another path")
        try:
            yield
        finally:
            if not self.path.exists():  # nothing to go on from
                shutil.rmtree(self.folder, ignore_errors=True)
            lock.close()

    def tidy(self) -> None:
        """Remove the empty folder of a run that was killed at the very end."""
        if self.folder.exists():
            with self.locked():
                pass

    def load(self) -> bool:
        """Read the journal; false if there is none, or none that can be used."""
        self.header, self.progress = None, Progress()
        try:
            with self.path.open("rb") as file:
                good = 0
                for raw in file:
                    entry = _entry(raw)
                    if entry is None:
                        break
                    if self.header is None:
                        self.header = entry
                    else:
                        self.progress.add(entry, good)
                    good += len(raw)
        except FileNotFoundError:
            return False
        if self.header is None or self.header.get("format") != FORMAT:
            return False
        os.truncate(self.path, good)  # a line that was cut short must not run into the next
        return True

    def begin(self, identity: str, schema: pa.Schema, base: int | None) -> None:
        """Start a new journal."""
        encoded = base64.b64encode(schema.serialize().to_pybytes()).decode()
        self.header = {"format": FORMAT, "identity": identity, "schema": encoded, "base": base}
        self.progress = Progress()
        self.path.unlink(missing_ok=True)
        self._append(self.header)

    @property
    def schema(self) -> pa.Schema:
        """The source's schema when the journal began."""
        assert self.header is not None
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.header["schema"])))

    def record(self, step: StepDone) -> None:
        """Note a finished step; on return it is on the disk."""
        rejects = [[r.reason, r.source, r.line, r.raw] for r in step.rejects]
        entry: dict[str, Any] = {
            "part": step.part,
            "position": step.position,
            "rows": step.rows,
            "fragments": step.fragments,
        }
        entry["rejects"] = rejects
        self.progress.add(entry, self._append(entry))

    def _append(self, entry: Mapping[str, Any]) -> int:
        with self.path.open("ab") as file:
            offset = file.tell()
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return offset

    def rejects(self) -> Iterator[dict[str, Any]]:
        """All rejects in the order of the rows, one step in memory at a time."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            for _part, offset in sorted(self.progress.rejects_at):
                file.seek(offset)
                for reason, source, line, raw in json.loads(file.readline())["rejects"]:
                    yield {"reason": reason, "source": source, "line": line, "raw": raw}

    def committed(self) -> int | None:
        """The table's version that these data files are in, if the commit happened."""
        names = {name for fragments in self.progress.fragments.values() for text in fragments for name in _names(text)}
        if not names or not table_exists(self.where):
            return None
        dataset = open_dataset(self.where)
        assert self.header is not None
        # the commit made the first version behind the one that the ingest began on
        for entry in sorted(dataset.versions(), key=lambda entry: entry["version"]):
            version = int(entry["version"])
            if version <= (self.header["base"] or 0):
                continue
            fragments = open_dataset(self.where, version).get_fragments()
            present = {Path(file.path).name for fragment in fragments for file in fragment.data_files()}
            if names <= present:
                return version
        return None

    def intact(self) -> bool:
        """Whether the data files are still there as they were written (checked on local disks)."""
        if location.is_remote(self.where):
            return True
        for fragments in self.progress.fragments.values():
            for text in fragments:
                for file in FragmentMetadata.from_json(text).files:
                    path = Path(self.where, "data", file.path)
                    size = file.file_size_bytes
                    if not path.is_file() or (size and path.stat().st_size != size):
                        return False
        return True

    def sweep(self) -> None:
        """Remove data files that an interrupted step left, if no table is there that could refer to them.

        Beside a table's own files they cannot be told from those of another writer; Lance removes them once they are
        seven days old (``cleanup_old_versions``).
        """
        if location.is_remote(self.where) or location.inspect(self.where) is not location.Found.INTERRUPTED:
            return
        kept = {Path(n).stem for texts in self.progress.fragments.values() for t in texts for n in _names(t)}
        for path in Path(self.where, "data").glob("*"):
            if path.stem not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget the journal and remove the data files that it names, which belong to no table."""
        names = [name for texts in self.progress.fragments.values() for text in texts for name in _names(text)]
        if location.is_remote(self.where):
            if names:
                files: Any = LanceFileSession(f"{self.where}/data", storage_options=storage.options_for(self.where))
                for name in names:  # side files of blobs stay for Lance's clean-up
                    with contextlib.suppress(OSError):
                        files.delete_file(name)
        else:
            for name in names:
                path = Path(self.where, "data", name)
                path.unlink(missing_ok=True)
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)  # the side files of blobs
            location.remove_leftovers(self.where)
            if location.inspect(self.where) is location.Found.NOTHING and Path(self.where).is_dir():
                Path(self.where).rmdir()
        self.close()

    def close(self) -> None:
        """Forget the journal; the data files are the table's now."""
        self.path.unlink(missing_ok=True)
        self.header, self.progress = None, Progress()


def _names(fragment: str) -> list[str]:
    return [file.path for file in FragmentMetadata.from_json(fragment).files]


def _entry(raw: bytes) -> dict[str, Any] | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _lock(path: Path) -> IO[bytes] | None:
    """An open file that holds the lock until it is closed; ``None`` when someone else has it."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: there, two ingests into one table must not be started
        return path.open("ab")
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        try:
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        file.close()  # the holder before us removed the file: lock the one that is there now

"""Where the parts of an unfinished job are noted, so that the job goes on after a crash.

The notes are small JSON files in ``_staging`` inside the table's folder (or prefix), one for each finished part, named
by what the part depends on. They refer to data files that are written but not part of any version yet.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from lance.file import LanceFileSession

from deepseek.data.table import location

FOLDER = "_staging"


class Journal:
    """The notes of one job on the table at ``path``."""

    def __init__(self, path: str, job: str, options: dict[str, str] | None) -> None:
        self._remote = location.is_remote(path)
        self._base = f"{path}/{FOLDER}/{job}"
        if not self._remote:
            self._base = str(Path(self._base).absolute())
            Path(self._base).mkdir(parents=True, exist_ok=True)
        self._files: Any = LanceFileSession(self._base, storage_options=options)

    def read(self, part: str) -> dict[str, Any] | None:
        """The note of a part, or ``None`` when the part is not finished."""
        name = f"{part}.json"
        if not self._files.contains(name):
            return None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "note.json"
            self._files.download_file(name, file)
            note: dict[str, Any] = json.loads(file.read_text())
        return note

    def write(self, part: str, note: dict[str, Any]) -> None:
        """Note that a part is finished; the note is there as a whole or not at all."""
        text = json.dumps(note)
        if not self._remote:
            file = Path(self._base) / f"{part}.json"
            partial = file.with_suffix(".partial")
            partial.write_text(text)
            partial.replace(file)
            return
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "note.json"
            local.write_text(text)
            self._files.upload_file(local, f"{part}.json")

    def clear(self) -> None:
        """Remove all notes of the job."""
        for name in self._files.list():
            with contextlib.suppress(OSError):
                self._files.delete_file(name)
        if not self._remote:
            with contextlib.suppress(OSError):
                Path(self._base).rmdir()
                Path(self._base).parent.rmdir()

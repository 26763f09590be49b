"""The registered definitions: one readable JSON file for each version of a view, in a folder or an object store.

Layout: ``views/NAME/VERSION.json``. A file is written completely or not at all, and never changed: a changed definition
is a new version. On a local disk two processes cannot register one version with two meanings; object stores lack a
create-if-absent that all of them share, so there the later of two simultaneous writers wins. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs
from pydantic import ValidationError

from deepseek.data.features.view import FeatureView
from deepseek.data.table import location
from deepseek.errors import ConfigError, UnknownNameError

_FILE = re.compile(r"(\d+)\.json")
_FORMAT = 1


class Definitions:
    """Reads and writes the definitions under ``path``."""

    def __init__(self, path: str | Path) -> None:
        self.path = location.normalise(path).rstrip("/")
        self.remote = location.is_remote(self.path)
        if self.remote:
            self._files, self._root = fs.FileSystem.from_uri(self.path)
        else:
            self.path = str(Path(self.path).absolute())
            self._files, self._root = fs.LocalFileSystem(), self.path

    def names(self) -> list[str]:
        """The names of all views, sorted."""
        return sorted(Path(entry.path).name for entry in self._list("views") if entry.type == fs.FileType.Directory)

    def versions(self, name: str) -> list[int]:
        """The registered versions of a view, ascending; empty when there is no such view."""
        names = (Path(entry.path).name for entry in self._list(f"views/{name}"))
        return sorted(int(match[1]) for match in map(_FILE.fullmatch, names) if match)

    def read(self, name: str, version: int | None = None) -> FeatureView:
        """A view, at its highest version by default.

        Raises:
            UnknownNameError: there is no such view or version.
            ConfigError: the file does not hold a definition.
        """
        versions = self.versions(name)
        if not versions:
            raise UnknownNameError("feature view", name, self.names(), hint=f"Feature store: {self.path}.")
        if version is None:
            version = versions[-1]
        if version not in versions:
            raise UnknownNameError("version of a view", f"{name}@{version}", [f"{name}@{each}" for each in versions])
        path = self._file(name, version)
        with self._files.open_input_stream(path) as stream:
            text = stream.read().decode("utf-8")
        try:
            content = json.loads(text)
            if content.pop("format", None) != _FORMAT:
                raise ConfigError(f'expected "format": {_FORMAT}; a newer release may have written it')
            view = FeatureView.model_validate(content)
        except (ValidationError, ConfigError, json.JSONDecodeError, AttributeError) as error:
            raise ConfigError(f"{path} is not the definition of a feature view: {error}") from error
        return view.model_copy(update={"source": self._absolute(view.source)})

    def write(self, view: FeatureView) -> FeatureView:
        """Add a definition; writing the same one again changes nothing. Returns it as :meth:`read` will.

        Raises:
            ConfigError: another definition is registered as this version; the message shows the difference.
        """
        content = {"format": _FORMAT} | self._portable(view).model_dump(mode="json")
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        if view.version in self.versions(view.name) or not self._create(self._file(view.name, view.version), text):
            self._require_same(view)
        return self.read(view.name, view.version)

    def delete(self, name: str, version: int | None = None) -> None:
        """Remove a version of a view, or all of them. The table stays.

        Raises:
            UnknownNameError: there is no such view or version.
        """
        self.read(name, version)
        for each in self.versions(name) if version is None else [version]:
            self._files.delete_file(self._file(name, each))
        if not self.versions(name):
            self._files.delete_dir(f"{self._root}/views/{name}")

    def _require_same(self, view: FeatureView) -> None:
        known = self._portable(self.read(view.name, view.version)).model_dump(mode="json")
        given = self._portable(view).model_dump(mode="json")
        if changes := [f"  {key}: {known[key]!r} -> {given[key]!r}" for key in given if known[key] != given[key]]:
            newest = self.versions(view.name)[-1]
            raise ConfigError(
                f"view {view.name!r} is registered as version {view.version} with another definition:\n"
                + "\n".join(changes)
                + f"\nRegistered versions do not change; register this one with version={newest + 1}."
            )

    def _portable(self, view: FeatureView) -> FeatureView:
        """With the source relative to this folder where both lie in one project folder, so that it can be moved."""
        if location.is_remote(view.source):
            return view
        source = os.path.normpath(Path(view.source).expanduser().absolute())
        project = Path(self.path).parent
        if not self.remote and project != Path(project.anchor) and Path(source).is_relative_to(project):
            source = os.path.relpath(source, self.path)
        return view.model_copy(update={"source": Path(source).as_posix()})

    def _absolute(self, source: str) -> str:
        """A stored source as an address or an absolute path."""
        return source if location.is_remote(source) else os.path.normpath(Path(self.path) / source)

    def _file(self, name: str, version: int) -> str:
        return f"{self._root}/views/{name}/{version}.json"

    def _list(self, folder: str) -> list[Any]:
        return list(self._files.get_file_info(fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)))

    def _create(self, path: str, text: str) -> bool:
        """Write a new file, complete or not at all; ``False`` when it exists (on a local disk)."""
        if self.remote:
            with self._files.open_output_stream(path) as stream:
                stream.write(pa.py_buffer(text.encode("utf-8")))
            return True
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o644)
            os.link(part, target)  # unlike a rename it never replaces what another process has just registered
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
        return True

"""The versions of a table: list, name, find by time, bring back."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Self

from deepseek.data.table.handle import TableHandle
from deepseek.data.table.lance_errors import LANCE_ERRORS, brief, cause, translated
from deepseek.data.table.lance_io import open_dataset
from deepseek.errors import TableError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class TableVersion:
    """One version of a table. ``timestamp`` is in UTC; ``rows`` is ``None`` where an old manifest does not say."""

    version: int
    timestamp: dt.datetime
    rows: int | None
    tags: tuple[str, ...]


class VersioningMixin(TableHandle):
    """The part of :class:`Table` that travels in time."""

    def versions(self) -> list[TableVersion]:
        """All versions that exist, oldest first."""
        tags: dict[int, list[str]] = {}
        for name, version in self.tags().items():
            tags.setdefault(version, []).append(name)
        return [
            TableVersion(
                version=entry["version"],
                timestamp=entry["timestamp"].astimezone(dt.UTC),
                rows=int(entry["metadata"]["total_rows"]) if "total_rows" in entry["metadata"] else None,
                tags=tuple(sorted(tags.get(entry["version"], ()))),
            )
            for entry in self._dataset.versions()
        ]

    def tags(self) -> dict[str, int]:
        """The tags and the versions that they name."""
        return {name: int(entry["version"]) for name, entry in sorted(self._dataset.tags.list().items())}

    def tag(self, name: str) -> None:
        """Give the version that this object reads a name; a tagged version survives :meth:`cleanup`.

        Raises:
            TableError: the name is taken by another version, or is not a valid tag.
        """
        existing = self.tags()
        if name in existing:
            if existing[name] == self.version:
                return
            raise TableError(f"tag {name!r} already names version {existing[name]} of {self.path}; untag it first")
        try:
            self._dataset.tags.create(name, self.version)
        except LANCE_ERRORS as error:
            raise TableError(
                f"cannot tag version {self.version} of {self.path} as {name!r}: {brief(error)}"
            ) from cause(error)

    def untag(self, name: str) -> None:
        """Take a name away; the version itself stays.

        Raises:
            UnknownNameError: there is no such tag.
        """
        existing = self.tags()
        if name not in existing:
            raise UnknownNameError("tag", name, existing, hint=f"Table: {self.path}.")
        with translated(f"untag {name!r}", self.path):
            self._dataset.tags.delete(name)

    def restore(self, version: int | str | dt.datetime) -> Self:
        """Make an older version's content the newest again, as a new version. Returns this object, moved to it.

        Raises:
            TableError: there is no such version, or this is not the newest version.
            UnknownNameError: there is no such tag.
        """
        self._require_newest()
        old = checkout(self._dataset, self.path, version)
        if int(old.version) == self.version:
            return self
        with translated(f"restore version {old.version}", self.path):
            old.restore()
        return self.refresh()


def checkout(dataset: Any, path: str, version: int | str | dt.datetime) -> Any:
    """The data set at a version number, at a tag, or as it was at a point in time (without a zone: UTC).

    Raises:
        TableError: there is no such version, or the table was made later.
        UnknownNameError: there is no such tag.
    """
    if isinstance(version, str):
        tags = dataset.tags.list()
        if version not in tags:
            raise UnknownNameError("tag", version, tags, hint=f"Table: {path}.")
        return open_dataset(path, int(tags[version]["version"]))
    entries = dataset.versions()
    if isinstance(version, dt.datetime):
        moment = version if version.tzinfo else version.replace(tzinfo=dt.UTC)
        earlier = [entry["version"] for entry in entries if entry["timestamp"].astimezone(dt.UTC) <= moment]
        if not earlier:
            oldest = entries[0]["timestamp"].astimezone(dt.UTC).isoformat()
            raise TableError(f"{path} has no version from {moment.isoformat()} or before; its oldest is from {oldest}")
        return open_dataset(path, max(earlier))
    known = [entry["version"] for entry in entries]
    if version not in known:
        raise TableError(f"{path} has no version {version}; existing versions: {_ranges(known)}")
    return open_dataset(path, version)


def _ranges(versions: list[int]) -> str:
    if len(versions) > 1 and versions == list(range(versions[0], versions[-1] + 1)):
        return f"{versions[0]} to {versions[-1]}"
    return ", ".join(map(str, versions))

"""What a data set is, where it comes from, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.artifacts import NpmFile, PackageFile


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """The facts about a data set. ``columns`` maps names to Arrow type aliases; ``notes`` say what a user must know.

    ``origin`` names the pinned file (name and SHA-256), so that equal origins mean equal rows.
    """

    name: str
    title: str
    license: str
    citation: str
    homepage: str
    columns: Mapping[str, str]
    language: str
    rows: int
    origin: str
    notes: str = ""

    def metadata(self) -> dict[str, str]:
        """The facts that a table made from the data set keeps."""
        return {"source": self.name, "title": self.title, "license": self.license, "citation": self.citation}


def origin_of(file: PackageFile | NpmFile) -> str:
    """A pinned file as a card's ``origin``."""
    return f"{file.filename} sha256:{file.sha256}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a data set: its values, or the ``problem`` that keeps it from having any. ``number`` is 1-based."""

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    raw: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A card and the function that reads the lines, fetching the file at first use.

    ``files``: for a data set that may be read from a folder of the user's, what identifies the files that would be read
    now, as plain JSON values; ``None`` where the card's origin does.
    """

    card: DatasetCard
    read: Callable[[], Iterator[Line]]
    files: Callable[[], Mapping[str, Any] | None] | None = None

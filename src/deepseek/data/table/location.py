"""Where a table lies, and what is there now: nothing, a table, an interrupted create, or something else."""

from __future__ import annotations

import shutil
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from deepseek.errors import TableError, nearest


class Found(Enum):
    """What lies at a table's path."""

    NOTHING = "nothing"
    TABLE = "a table"
    INTERRUPTED = "an interrupted create"
    OTHER = "something that is not a table"


_LANCE_FOLDERS = {"data", "_transactions", "_versions", "_deletions", "_indices", "_refs", "_staging"}


def normalise(path: str | Path) -> str:
    """The path as Lance takes it: ``~`` expanded; addresses with a scheme (``s3://...``) lose only a final slash.

    Raises:
        TableError: the address has a user or password in it, which would be shown wherever the path is.
    """
    text = str(path)
    if not is_remote(text):
        return str(Path(text).expanduser())
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise TableError(
            f"{parts.scheme}://...{parts.path}: credentials do not belong into an address; give them as "
            f"storage_options= or in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    return text.rstrip("/")


def is_remote(path: str) -> bool:
    """Whether ``path`` is an address in an object store."""
    return "://" in path


def inspect(path: str) -> Found:
    """Look at a local path without opening it as a table. A table exists once a manifest was committed."""
    folder = Path(path)
    if not folder.exists():
        return Found.NOTHING
    if not folder.is_dir():
        return Found.OTHER
    if any((folder / "_versions").glob("*.manifest")):
        return Found.TABLE
    names = {entry.name for entry in folder.iterdir()}
    if not names:
        return Found.NOTHING
    return Found.INTERRUPTED if names <= _LANCE_FOLDERS else Found.OTHER


def require_table(path: str) -> None:
    """Raise :class:`TableError`, saying what is there instead, unless a committed table lies at the local ``path``."""
    found = inspect(path)
    if found is Found.TABLE:
        return
    if found is Found.INTERRUPTED:
        raise TableError(
            f"{path} is what an interrupted create left: its data was never committed, so there is no table yet. "
            f"Run the same create again; it writes over the leftovers."
        )
    if found is Found.OTHER:
        raise TableError(f"{path} is not a table (expected a Lance folder with a _versions folder inside)")
    folder = Path(path).absolute().parent
    siblings = sorted(entry.name for entry in folder.glob("*.lance")) if folder.is_dir() else []
    shown = (nearest(Path(path).name, siblings) or siblings)[:5]
    beside = f" Tables beside it: {', '.join(shown)}." if shown else f" There is no *.lance table in {folder}."
    raise TableError(f"there is no table at {path}.{beside}")


def require_free(path: str) -> None:
    """Raise :class:`TableError` unless a table may be created at the local ``path``."""
    found = inspect(path)
    if found is Found.TABLE:
        raise TableError(
            f"there is a table at {path} already. Use overwrite=True to write a new version of it (older versions "
            f"stay readable), Table.open(...).append(rows) to add to it, or choose another path."
        )
    if found is Found.OTHER:
        raise TableError(f"{path} exists and is not a table; choose another path or move it away")


def remove_leftovers(path: str) -> None:
    """Remove what a failed create left, if no manifest was committed there."""
    if inspect(path) is Found.INTERRUPTED:
        shutil.rmtree(path, ignore_errors=True)

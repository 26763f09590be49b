"""Turns Lance's errors into ours: what was asked, what is wrong, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deepseek.data.table import storage
from deepseek.errors import ConflictError, DeepSeekError, TableError, UnknownNameError

_NO_FIELD = re.compile(r"No field named \"?([^\s\".]+)")
_LOCATION = re.compile(r",? (?:location: )?/\S+\.rs:\d+:\d+")
_DISK = ("No space left", "File too large", "Disk quota", "os error 28", "os error 27", "StorageFull", "storage full")
_CONFLICT = ("commit conflict", "CommitConflict", "concurrent", "Too many concurrent writers")

LANCE_ERRORS = (ValueError, OSError, RuntimeError, NotImplementedError)
"""What Lance raises for something that a user, a disk or a network did."""


def brief(error: BaseException) -> str:
    """The error's text without the places in Lance's source code, and without secrets."""
    return storage.redact(_LOCATION.sub("", str(error)).removeprefix("Invalid user input: ").strip())


def cause(error: BaseException) -> BaseException | None:
    """What to chain: the error itself, or nothing when its text repeats a secret."""
    return error if storage.is_clean(error) else None


def is_conflict(error: BaseException) -> bool:
    """Whether a commit failed because somebody else committed meanwhile."""
    return any(sign.lower() in str(error).lower() for sign in _CONFLICT)


def filter_error(error: Exception, where: str, columns: Sequence[str]) -> DeepSeekError:
    """The error for a condition or expression that Lance refused."""
    if isinstance(error, DeepSeekError):
        return error
    if match := _NO_FIELD.search(str(error)):
        return UnknownNameError("column", match[1], columns, hint=f"Condition: {where}")
    return TableError(f"{where!r} cannot be applied: {brief(error)}. Expected SQL such as \"label = 'spam'\".")


def write_error(error: Exception, path: str, mode: str) -> TableError:
    """The error for a write that failed before its commit."""
    before = "no table was made" if mode == "create" else "the previous version is intact"
    if any(sign in str(error) for sign in _DISK):
        return TableError(
            f"the disk is full (or a quota or file size limit was reached) while writing {path}; {before}"
        )
    if is_conflict(error):
        return ConflictError(
            f"{path} was changed by another writer while this one wrote, in a way that cannot be combined; {before} "
            f"as the other writer left it. Open the table again and repeat the write."
        )
    return TableError(f"writing {path} failed; {before}: {brief(error)}")


@contextmanager
def translated(purpose: str, path: str) -> Iterator[None]:
    """Raise Lance's errors inside the ``with`` block as :class:`TableError`, conflicts as :class:`ConflictError`."""
    try:
        yield
    except DeepSeekError:
        raise
    except LANCE_ERRORS as error:
        if is_conflict(error) or any(sign in str(error) for sign in _DISK):
            raise write_error(error, path, purpose) from cause(error)
        raise TableError(f"{purpose}: {path}: {brief(error)}") from cause(error)

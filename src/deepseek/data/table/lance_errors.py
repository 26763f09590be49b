"""Turns Lance's errors into ours: what was asked, what is wrong, what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deepseek.errors import DeepSeekError, TableError, UnknownNameError

_NO_FIELD = re.compile(r"No field named \"?([^\s\".]+)")
_LOCATION = re.compile(r",? (?:location: )?/\S+\.rs:\d+:\d+")
_DISK = ("No space left", "File too large", "Disk quota", "os error 28", "os error 27", "StorageFull", "storage full")


def brief(error: Exception) -> str:
    """The error's text without the places in Lance's source code."""
    return _LOCATION.sub("", str(error)).removeprefix("Invalid user input: ").strip()


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
    return TableError(f"writing {path} failed; {before}: {brief(error)}")

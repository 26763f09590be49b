"""Typed errors: each says what was expected, what came, and what to do next.

Every error that a user can cause derives from :class:`DeepSeekError` and from the built-in exception that Python users
would catch for it (``ValueError``, ``LookupError``, ``OSError``, ``ImportError``), so both styles of handling work.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class DeepSeekError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigError(DeepSeekError, ValueError):
    """A recipe, configuration or argument is wrong; nothing was started."""


class DataError(DeepSeekError, ValueError):
    """Rows, columns or files do not have the expected form."""


class TransformationError(DataError):
    """A function that computes features failed on rows, or returned something else than it said."""


class TableError(DeepSeekError, ValueError):
    """A table cannot be created, opened or changed as asked."""


class ConflictError(TableError):
    """Another writer changed the table meanwhile, and the two changes cannot be combined; nothing was written."""


class BundleError(DeepSeekError, ValueError):
    """A bundle is missing, incomplete or damaged."""


class FetchError(DeepSeekError, OSError):
    """A pinned file could not be fetched or does not match its hash."""


class OnlineStoreError(DeepSeekError, OSError):
    """An online store cannot be reached, read or written."""


class EngineError(DeepSeekError, RuntimeError):
    """The cluster that work was given to cannot be reached, or could not run a piece of it."""


class TrainingError(DeepSeekError, RuntimeError):
    """Training could not go on; what was saved before is kept."""


class OutOfMemory(TrainingError):  # noqa: N818 - as torch and Python name theirs, it is what happened
    """Training needs more memory than there is; the message has settings that need less."""


class AccuracyError(DeepSeekError, ValueError):
    """A smaller or faster copy of a model answers worse than was allowed."""


class UnknownNameError(DeepSeekError, LookupError):
    """A name (model, task, column, ...) is not known; the nearest known names are in the message."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind = kind
        self.name = name
        self.known = sorted(known)
        self.nearest = nearest(name, self.known)
        self.hint = hint
        super().__init__(self._message(hint))

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str], str]]:
        return type(self), (self.kind, self.name, self.known, self.hint)  # or it could not cross processes

    def _message(self, hint: str) -> str:
        if self.nearest:
            guess = f"Did you mean {' or '.join(repr(n) for n in self.nearest)}?"
        elif not self.known:
            guess = "" if hint else f"No {self.kind} is known here."
        elif len(self.known) <= 12:
            guess = f"Known: {', '.join(self.known)}."
        else:
            guess = f"Known: {', '.join(self.known[:12])} and {len(self.known) - 12} more."
        return " ".join(part for part in (f"unknown {self.kind} {self.name!r}.", guess, hint) if part)


class MissingExtraError(DeepSeekError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` known names that look like ``name``, best first."""
    by_folded = {k.casefold(): k for k in known}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=count, cutoff=0.6)
    return [by_folded[f] for f in found]


def require(module: str, extra: str) -> ModuleType:
    """Import an optional ``module``; raise :class:`MissingExtraError` naming the ``extra`` when it is absent."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not (module == error.name or module.startswith(error.name + ".")):
            raise
        raise MissingExtraError(
            f"this needs the optional library {module.partition('.')[0]!r}; "
            f"install it with: pip install 'deepseek[{extra}]'"
        ) from error

"""Exceptions between processes: by name, and made again only where the class is known.

Errors of :mod:`deepseek.errors`, :mod:`deepseek.serving.errors` and Python's own that take a message arrive as what
they were. Others arrive as the nearest base that does, which decides how the client is told; one of ``DeepSeekError``
and ``ValueError`` becomes a ``RequestError``, one without such a base a ``RuntimeError``. The worker's traceback is
added as a note, so it is in the log when the error is logged.
"""

from __future__ import annotations

import builtins
import traceback

from deepseek import errors
from deepseek.errors import DeepSeekError
from deepseek.serving import errors as serving_errors
from deepseek.serving.errors import RequestError
from deepseek.serving.workers.messages import Fault

_MODULES = {module.__name__: module for module in (errors, serving_errors, builtins)}


def fault(error: BaseException) -> Fault:
    """Describe an exception."""
    kind = _nearest(type(error))
    # KeyError prints its message in quotes, so that an empty key can be seen; once is enough.
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if kind is RuntimeError and type(error) is not RuntimeError:
        message = f"{type(error).__name__}: {message}"
    return Fault(kind.__module__, kind.__qualname__, message, "".join(traceback.format_exception(error)))


def _nearest(kind: type[BaseException]) -> type[Exception]:
    for base in kind.__mro__:
        known = _known(base.__module__, base.__qualname__)
        if known is DeepSeekError and issubclass(kind, ValueError):
            return RequestError  # a plugin's own error; its message is for the client
        if known is base and base is not Exception:
            return known
    return RuntimeError


def raised(fault: Fault) -> Exception:
    """The exception again."""
    kind = _known(fault.module, fault.kind) or RuntimeError
    # Not by calling the class: some take more than a message, which they have put together already.
    error = kind.__new__(kind, fault.message)
    error.args = (fault.message,)
    if fault.traceback:
        error.add_note(f"In the worker process:\n{fault.traceback}")
    return error


def _known(module: str, name: str) -> type[Exception] | None:
    found = getattr(_MODULES.get(module), name, None)
    if not (isinstance(found, type) and issubclass(found, Exception)) or found in _NOT_ALONE:
        return None
    return found


_NOT_ALONE = (
    StopIteration,  # a future cannot carry it
    serving_errors.QueueFullError,  # these carry a number that is about this process's queue or keys
    serving_errors.QuotaExceededError,
    UnicodeDecodeError,  # these print more than a message
    UnicodeEncodeError,
    UnicodeTranslateError,
    SyntaxError,
    BaseExceptionGroup,
    ExceptionGroup,
)

"""Log records as lines: JSON for machines, or a line for people. Neither shows user data unless asked to by name.

What may hold user data is left out by default: the message of an exception (``expected a number, received 'my
diagnosis'``). Its type and the places in the code that it passed are shown. Messages of the operating system and of
memory that ran out are shown as well: they name files and sizes, not inputs. Extra fields are shown if they are on the
list; a record's own message is the code's, and the code of this package puts no inputs into it.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

FIELDS = (
    "request_id", "trace_id", "protocol", "operation", "model", "version", "code", "seconds", "rows", "input_tokens",
    "output_tokens", "key_id", "worker", "suppressed",
)  # fmt: skip
"""Extra fields of a record that are written."""
_SHOWN = (OSError, MemoryError)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, known extra fields, error."""

    def __init__(self, *, exception_messages: bool = False) -> None:
        super().__init__()
        self._exception_messages = exception_messages

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _error(record.exc_info[1], self._exception_messages)
        return json.dumps(line, ensure_ascii=False, default=str)


class ConsoleFormatter(logging.Formatter):
    """``12:30:01.250 INFO    message  key=value``, and a traceback without source lines."""

    def __init__(self, *, exception_messages: bool = False) -> None:
        super().__init__()
        self._exception_messages = exception_messages

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, and more for an exception."""
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        extra = "".join(f" {name}={value}" for name, value in _extra(record).items())
        text = f"{at} {record.levelname:7} {record.getMessage()}{' ' if extra else ''}{extra}".replace("\n", "\\n")
        if record.exc_info and record.exc_info[1] is not None:
            error = _error(record.exc_info[1], self._exception_messages)
            text += f"\n  {error['type']}: {error['message']}" + "".join(f"\n    {place}" for place in error["places"])
        return text


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    found = record.__dict__
    return {name: found[name] for name in FIELDS if name in found}


def _error(error: BaseException, with_message: bool) -> dict[str, Any]:
    kind = type(error)
    shown = with_message or isinstance(error, _SHOWN) or "OutOfMemory" in kind.__name__
    found: dict[str, Any] = {
        "type": kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
        "message": str(error) if shown else "(withheld: it may hold user data; logs.exception_messages shows it)",
        "places": [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)],
    }
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        found["cause"] = type(cause).__qualname__
    return found

"""Where this package's log lines go, without touching anybody else's logging.

The handler is put on the logger ``deepseek``, never on the root, and nothing is removed. An application that has
handlers of its own (on the root, or on ``deepseek``) gets the records there already; then none is added unless
``attach`` says ``always``. Closing takes away what was added and restores the level.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field

from deepseek.monitoring.logs.access import AccessLog
from deepseek.monitoring.logs.formatters import ConsoleFormatter, JsonFormatter
from deepseek.monitoring.logs.suppression import Suppression
from deepseek.monitoring.logs.writer import ThreadedHandler
from deepseek.monitoring.metrics.samples import Sample

Level = Literal["debug", "info", "warning", "error"]


class LogConfig(BaseModel):
    """How a server logs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Level = Field(
        default="warning", description="Least severe level that is written; info has a line a request."
    )
    format: Literal["console", "json"] = Field(default="console", description="Lines for people, or JSON lines.")
    attach: Literal["auto", "always", "never"] = Field(
        default="auto", description="Whether to add a handler; auto adds one unless the application has its own."
    )
    exception_messages: bool = Field(
        default=False, description="Show the messages of exceptions, which may quote inputs of users."
    )
    repeats_per_minute: int = Field(
        default=10, ge=1, description="Most lines a minute of one warning or error; the others are counted."
    )


class Logs:
    """Logging as ``config`` says, from :meth:`open` to :meth:`close`."""

    def __init__(self, config: LogConfig, stream: TextIO | None = None) -> None:
        self._config, self._stream = config, stream
        self._logger = logging.getLogger("deepseek")
        self._level: int | None = None
        self._suppression = Suppression(config.repeats_per_minute)
        self._handler: ThreadedHandler | None = None
        self.access = AccessLog()
        """Decides at :meth:`open` whether it writes."""

    def open(self) -> None:
        """Add the handler and set the level; an application that has handlers and a level of its own keeps both."""
        config, ours = self._config, self._logger
        theirs = bool(ours.handlers or logging.getLogger().handlers)
        if config.attach == "always" or (config.attach == "auto" and not theirs):
            formatter = JsonFormatter if config.format == "json" else ConsoleFormatter
            self._handler = ThreadedHandler(self._stream or sys.stderr)
            self._handler.setFormatter(formatter(exception_messages=config.exception_messages))
            self._handler.addFilter(self._suppression)
            ours.addHandler(self._handler)
        if self._handler is not None or ours.level == logging.NOTSET:
            self._level = ours.level
            ours.setLevel(config.level.upper())
        self.access.renew()

    def samples(self) -> Iterator[Sample]:
        """``deepseek_log_records_suppressed``."""
        dropped = self._handler.dropped if self._handler is not None else 0
        yield Sample("deepseek_log_records_suppressed", (), self._suppression.total + dropped)

    def close(self) -> None:
        """Write what waits, and leave logging as it was."""
        if self._handler is not None:
            self._logger.removeHandler(self._handler)
            self._handler.close()
            self._handler = None
        if self._level is not None:
            self._logger.setLevel(self._level)
            self._level = None

    def __enter__(self) -> Logs:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

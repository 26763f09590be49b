"""A handler that never makes the event loop wait: records go to a thread, which formats and writes them.

A terminal that is paused, or a log collector that is behind, fills the pipe; a handler that writes at once would then
stop the server. Here at most ``most_waiting`` records wait, and what comes beyond is dropped and counted. So is what
the stream does not take, such as a file on a full disk; when it takes lines again, the first one says so.
"""

from __future__ import annotations

import logging
import threading
import time
from queue import SimpleQueue
from typing import TextIO

_FLUSH_SECONDS = 2.0


class ThreadedHandler(logging.Handler):
    """Writes formatted records to ``stream`` from a thread of its own, in order."""

    def __init__(self, stream: TextIO, *, most_waiting: int = 10_000) -> None:
        super().__init__()
        self._stream = stream
        self._most_waiting = most_waiting
        self._records: SimpleQueue[logging.LogRecord | threading.Event] = SimpleQueue()
        self._stopped = threading.Event()
        self.dropped = 0
        """Records that found no room, or that the stream did not take."""
        self._missing = 0
        """Of these, the ones that the log has not been told of."""
        self._thread = threading.Thread(target=self._write, name="deepseek-logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record to the thread."""
        if self._records.qsize() >= self._most_waiting or self._stopped.is_set():
            self.dropped += 1
            return
        # Arguments may change before the thread comes to them.
        record.msg, record.args = record.getMessage(), None
        self._records.put(record)

    def _write(self) -> None:
        while True:
            record = self._records.get()
            if isinstance(record, threading.Event):
                record.set()
                if record is self._stopped:
                    return
                continue
            try:
                self._write_line(record)
            except OSError:
                self.dropped += 1
                self._missing += 1
            except Exception:  # noqa: BLE001  as the standard handlers do: logging must not end the program
                self.handleError(record)

    def _write_line(self, record: logging.LogRecord) -> None:
        text = self.format(record) + "\n"
        if self._missing:
            message = "the log took no lines for a while; about %d before this one are missing"
            told = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (self._missing,), None)
            text = self.format(told) + "\n" + text
        self._stream.write(text)
        if self._records.empty() or self._missing:
            self._stream.flush()
        self._missing = 0

    def flush(self) -> None:
        """Wait until everything so far is written, for two seconds at most."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            done = threading.Event()
            self._records.put(done)
            done.wait(_FLUSH_SECONDS)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self.flush()
        if not self._stopped.is_set():
            self._records.put(self._stopped)
            end = time.monotonic() + _FLUSH_SECONDS
            self._thread.join(max(end - time.monotonic(), 0))
        super().close()

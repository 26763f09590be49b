"""In a worker: the thread that tells the server of this process, and hears what cannot wait for the model."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
import traceback
from collections.abc import Callable

import psutil

from deepseek.serving.workers.messages import Beat, Cancel, Record, Statistics
from deepseek.serving.workers.streams import BlockingStream


class Control:
    """Beats, cancellations, log lines and statistics; ends the process when the server is gone."""

    def __init__(self, stream: BlockingStream, beat_seconds: float) -> None:
        self._stream = stream
        self._beat = beat_seconds
        self._process = psutil.Process()
        self._sending = threading.Lock()
        self._counting = threading.Lock()
        self._cancel: Callable[[], object] | None = None
        self._running = 0
        self._began = 0.0
        self._cancelled = 0
        self._rss = self._batches = self._rows = 0
        self._busy = 0.0

    def start(self) -> None:
        """Start beating."""
        threading.Thread(target=self._run, name="deepseek-worker-control", daemon=True).start()

    def forward_logs(self, level: int) -> None:
        """Send every log record of this process to the server's logging, and nowhere else."""
        root = logging.getLogger()
        root.handlers[:] = [_Forward(self)]
        root.setLevel(level)

    def model_loaded(self, cancel: Callable[[], object] | None) -> None:
        """Say how the model's running call is cancelled."""
        self._cancel = cancel

    def begins(self, number: int) -> None:
        """The model begins with a batch."""
        with self._counting:
            self._running, self._began = number, time.perf_counter()

    def ends(self, seconds: float, rows: int) -> None:
        """The model has ended its batch."""
        with self._counting:
            self._running = 0
            self._busy += seconds
            self._batches += 1
            self._rows += rows

    def wanted(self, number: int) -> bool:
        """Whether the server still waits for a batch."""
        return self._cancelled != number

    def measure(self) -> None:
        """Look at the process's memory; reading it costs too much to do for each batch."""
        self._rss = self._process.memory_info().rss

    def statistics(self) -> Statistics:
        """What this process has done and uses."""
        with self._counting:
            running = time.perf_counter() - self._began if self._running else 0.0
            return Statistics(self._rss, self._busy + running, self._batches, self._rows)

    def send(self, message: Beat | Record) -> None:
        """Send a message from any thread."""
        with self._sending:
            self._stream.send(message)

    def _run(self) -> None:
        try:
            next_beat = 0.0
            while True:
                now = time.monotonic()
                if now >= next_beat:
                    next_beat = now + self._beat
                    self.measure()
                    self.send(Beat(self.statistics()))
                    self._cancel_running()  # again: it may have been told just before it began to listen
                readable, _, _ = select.select([self._stream.socket], [], [], next_beat - now)
                if readable:
                    messages = self._stream.read()
                    if messages is None:
                        break
                    for message in messages:
                        if isinstance(message, Cancel):
                            self._cancel_batch(message.number)
        except OSError:
            pass
        # Not sys.exit: the model may be in a call that never returns.
        os._exit(1)

    def _cancel_batch(self, number: int) -> None:
        with self._counting:
            self._cancelled = number
        self._cancel_running()

    def _cancel_running(self) -> None:
        with self._counting:
            if not self._running or self._running != self._cancelled:
                return  # it has ended, or waits in the other stream and will not begin
        if self._cancel is not None:
            try:
                self._cancel()
            except Exception:
                logging.getLogger("deepseek.serving").exception("the model failed to cancel its call")


class _Forward(logging.Handler):
    """Sends records to the server."""

    def __init__(self, control: Control) -> None:
        super().__init__()
        self._control = control

    def emit(self, record: logging.LogRecord) -> None:
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        try:
            self._control.send(Record(record.name, record.levelno, record.getMessage(), record.created, trace))
        except OSError:
            pass  # the server is gone, and this process with it
        except Exception:  # noqa: BLE001  logging's way: a bad line must not end the model's call
            self.handleError(record)

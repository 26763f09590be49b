"""Drift of data that never ends: rows are counted as they come and compared with the reference at any time."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.data.profiles.drift import LiveRows, Rows, _profiled, as_batches
from deepseek.data.profiles.drift_report import DriftConfig, DriftReport, judge


class DriftMonitor:
    """Counts live rows against a reference profile; for many threads, in memory that does not grow with the rows.

    About 10 kB for a number column, 30 kB for a text column, and 100 kB and three numbers a dimension for a vector.

    Example::

        monitor = DriftMonitor(bundle.reference)
        monitor.update([{"text": "a fine film", "label": "positive"}])
        if monitor.report().drifted: ...
        monitor.reset()          # a new window begins
    """

    def __init__(
        self, reference: Mapping[str, Any], columns: Sequence[str] | None = None, *, config: DriftConfig | None = None
    ) -> None:
        self._known = _profiled(reference, columns, "local")
        self._config = config or DriftConfig()
        self._live = LiveRows.against(self._known, columns)
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """How many rows have come since the start or the last reset."""
        return self._live.rows

    def update(self, rows: Rows) -> None:
        """Add rows: Arrow data, or dicts. Either all of them are counted or, when one cannot be read, none.

        Raises:
            DataError: the rows are of no known form.
        """
        part = self._live.empty()
        for batch in as_batches(rows, list(part.reference)):
            part.update(batch)
        with self._lock:
            self._live.merge(part)

    def merge(self, other: DriftMonitor) -> None:
        """Add what another monitor of the same reference has counted, such as another server's."""
        part = other._snapshot()
        with self._lock:
            self._live.merge(part)

    def report(self) -> DriftReport:
        """Compare what has been counted so far."""
        return judge(self._known, self._snapshot(), self._config)

    def reset(self) -> DriftReport:
        """Start again from nothing; returns the report on what had been counted."""
        with self._lock:
            finished, self._live = self._live, self._live.empty()
        return judge(self._known, finished, self._config)

    def _snapshot(self) -> LiveRows:
        with self._lock:
            copy = self._live.empty()
            copy.merge(self._live)
        return copy

    def __getstate__(self) -> dict[str, Any]:
        return {"_known": self._known, "_config": self._config, "_live": self._snapshot()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

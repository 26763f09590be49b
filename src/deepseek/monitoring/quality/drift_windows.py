"""Drift window after window: sampled rows are counted against the reference until a window is complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from deepseek.data.profiles import DriftMonitor, DriftReport
    from deepseek.data.profiles.drift_report import ColumnDrift, DriftConfig, DriftTest

Row = Mapping[str, Any]
STATES = ("stable", "warning", "drift")
_BINNED = frozenset({"number", "time", "boolean", "vector", "blob", "list"})
"""Kinds of column whose bins are the reference's, so that a distribution over them shows no value of a row."""


class ColumnState(NamedTuple):
    """A column's verdict."""

    name: str
    side: str
    """``input`` or ``prediction``."""
    state: int
    """Index in :data:`STATES`."""
    effect: float
    """Largest effect of the column's tests by the threshold at which it is drift; 1 is at the threshold."""
    tests: tuple[Mapping[str, Any], ...] = ()
    """Each test's numbers: aspect, measure, effect, both thresholds, the test's name, p-values, verdict."""
    shares: Mapping[str, Any] | None = None
    """Both distributions over the same bins; ``None`` where they would show values of rows."""


class WindowConfig(Protocol):
    """When a window is complete; see :class:`deepseek.monitoring.quality.QualityConfig`."""

    @property
    def window_rows(self) -> int: ...
    @property
    def window_seconds(self) -> float: ...
    @property
    def min_rows(self) -> int: ...


class DriftWindows:
    """Windows of one model against one reference; not for several threads at once.

    Raises:
        DataError: the reference is of a format that this version cannot read.
    """

    def __init__(
        self, reference: Mapping[str, Any], most_columns: int, answer_column: str | None, config: WindowConfig
    ) -> None:
        self._reference = reference
        described = reference.get("columns", {})
        # The answer first, so that a reference of very many columns never loses it.
        names = sorted(described, key=lambda name: name != answer_column)
        self._names = names[:most_columns]
        self._blobs = frozenset(name for name in self._names if described[name].get("kind") == "blob")
        self.left_out = len(names) - len(self._names)
        """Columns of the reference that are not compared."""
        self._answer_column = answer_column
        self._config = config
        self._monitor: DriftMonitor | None = None
        self._began: float | None = None
        self.columns: list[ColumnState] = []
        self.rows = 0
        """Rows that the verdict was given on."""
        self.ended: float | None = None
        """Unix time of the verdict."""

    def row(self, row: Row, output: Row) -> dict[str, Any]:
        """The compared columns of a row and its answer."""
        return {name: self._value(name, row, output) for name in self._names}

    def update(self, rows: Sequence[Row], now: float) -> None:
        """Count what :meth:`row` gave, and judge when the window is complete; raises ``DataError``."""
        if self._monitor is None:
            from deepseek.data.profiles import DriftMonitor

            self._monitor = DriftMonitor(self._reference, self._names)
        if self._began is None:
            self._began = now
        if rows:
            self._monitor.update([{name: _plain(value) for name, value in row.items()} for row in rows])
        counted, config = self._monitor.rows, self._config
        if counted >= config.window_rows or (now - self._began >= config.window_seconds and counted >= config.min_rows):
            self._judge(self._monitor.reset(), now)
            self._began = now
        elif self.ended is None and counted >= config.min_rows:  # the first verdict should not take an hour
            self._judge(self._monitor.report(), None)

    def _value(self, name: str, row: Row, output: Row) -> Any:
        if name == self._answer_column:
            value = next((output[field] for field in ("label", "value", "labels", "tags") if field in output), None)
        else:
            value = row.get(name)
        if name in self._blobs and isinstance(value, bytes):
            return {"size": len(value)}  # a reference counts sizes, and the bytes need not be held for that
        return value

    def _judge(self, report: DriftReport, ended: float | None) -> None:
        self.rows, self.ended = report.current_rows, ended
        self.columns = [self._state(column, report.config) for column in report.columns]

    def _state(self, column: ColumnDrift, config: DriftConfig) -> ColumnState:
        # A prediction's values are the model's own vocabulary, not its callers'.
        shown = column.name == self._answer_column or column.kind in _BINNED
        bars = column.bars if shown else None
        return ColumnState(
            column.name,
            "prediction" if column.name == self._answer_column else "input",
            STATES.index(column.verdict),
            max((config.severity(test)[1] for test in column.tests), default=0.0),
            tuple(_numbers(test, config) for test in column.tests),
            None if bars is None else {"bins": bars.labels, "reference": bars.reference, "live": bars.current},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; never values of rows."""
        return {
            "rows": self.rows,
            "ended": self.ended,
            "counting": self._monitor.rows if self._monitor is not None else 0,
            "left_out": self.left_out,
            "columns": [
                {
                    "name": c.name,
                    "side": c.side,
                    "verdict": STATES[c.state],
                    "effect": c.effect,
                    "tests": c.tests,
                    "shares": c.shares,
                }
                for c in self.columns
            ],
        }


def _numbers(test: DriftTest, config: DriftConfig) -> dict[str, Any]:
    """A test without its text, which may quote values."""
    warning, drift = getattr(config, test.measure)
    return {
        "aspect": test.aspect,
        "measure": test.measure,
        "effect": test.effect,
        "warning": warning,
        "drift": drift,
        "test": test.test,
        "p_value": test.p_value,
        "p_adjusted": test.p_adjusted,
        "verdict": test.verdict,
    }


def _plain(value: Any) -> Any:
    """NumPy's arrays as Arrow reads several dimensions: nested lists."""
    return value.tolist() if hasattr(value, "tolist") else value

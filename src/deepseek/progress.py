"""Progress bars for anything that takes longer than two seconds.

One style everywhere: on a terminal a live bar with rate and time left, in a log file one line when a step ends, and
nothing at all under :func:`quiet` (which the test-suite and ``--quiet`` use).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
_quiet = False
_console: Console | None = None


def console() -> Console:
    """The console that progress and messages go to (standard error, so that standard output stays parseable)."""
    global _console
    if _console is None:
        from rich.console import Console as RichConsole

        _console = RichConsole(stderr=True)
    return _console


@contextlib.contextmanager
def quiet(enabled: bool = True) -> Iterator[None]:
    """Silence progress inside the ``with`` block."""
    global _quiet
    before, _quiet = _quiet, enabled or _quiet
    try:
        yield
    finally:
        _quiet = before


def silence() -> None:
    """Silence progress for the rest of the process."""
    global _quiet
    _quiet = True


class Bar:
    """A running progress bar; ``advance`` moves it, ``total`` may become known later."""

    def __init__(self, description: str, total: float | None, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0.0
        self.note = ""
        self._started = time.monotonic()
        self._live: tuple[object, object] | None = None

    def __enter__(self) -> Bar:
        if not _quiet and console().is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            amount = (
                TextColumn("{task.fields[amount]}")
                if self.unit == "bytes"
                else TextColumn("{task.completed:,.0f}/{task.total:,.0f}" if self.total else "{task.completed:,.0f}")
            )
            progress = Progress(
                TextColumn("  {task.description}"),
                BarColumn(bar_width=28),
                amount,
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[note]}"),
                console=console(),
                transient=True,
            )
            progress.start()
            self._live = (progress, progress.add_task(self.description, total=self.total, note="", amount=""))
        return self

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Move the bar by ``amount`` and optionally show a short ``note`` (a loss, a file name)."""
        self.set(self.done + amount, note=note)

    def set(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Move the bar to ``done``; give ``total`` once it is known."""
        self.done = done
        self.total = total if total is not None else self.total
        self.note = note if note is not None else self.note
        if self._live:
            progress, task = self._live
            amount = f"{self.done / 1e6:.1f}/{(self.total or 0) / 1e6:.1f} MB"
            progress.update(task, completed=done, total=self.total, note=self.note, amount=amount)  # type: ignore[attr-defined]

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._live:
            self._live[0].stop()  # type: ignore[attr-defined]
        seconds = time.monotonic() - self._started
        if not _quiet and seconds >= 2 and error is None:
            amount = f"{self.done / 1e6:.1f} MB" if self.unit == "bytes" else f"{self.done:,.0f} {self.unit}"
            note = f", {self.note}" if self.note else ""
            console().print(f"  {self.description}: {amount} in {seconds:.1f} s{note}", style="dim", highlight=False)


def bar(description: str, total: float | None = None, unit: str = "rows") -> Bar:
    """Open a progress bar: ``with bar("encode", total=100) as b: b.advance()``."""
    return Bar(description, total, unit)


def track(items: Iterable[T], description: str, total: float | None = None, unit: str = "rows") -> Iterator[T]:
    """Yield ``items`` under a progress bar that advances by one each."""
    with bar(description, total, unit) as running:
        for item in items:
            yield item
            running.advance()

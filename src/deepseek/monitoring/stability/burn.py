"""How fast an objective's error budget is used, over several windows at once.

The method is that of the Google SRE workbook, chapter 5, "6: Multiwindow, Multi-Burn-Rate Alerts": an alert needs a
burn rate above its factor in a long window, so that a blip is none, and in a short one of a twelfth, so that it ends
soon after the trouble does. The same windows and factors are in the Prometheus rules that ship; here they work without
a Prometheus, and begin anew with the process. A window that the history does not fill is judged by what there is; fewer
than :data:`LEAST_EVENTS` requests are not judged, because one failure of three is no rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from deepseek.monitoring.metrics.samples import Sample, Snapshot
from deepseek.monitoring.stability.objectives import Events, Objective

RESOLUTION = 60.0
"""Seconds between kept counts."""
LEAST_EVENTS = 20


class Alert(NamedTuple):
    """A pair of windows (seconds), the burn rate that both have to exceed, and who is told."""

    long: int
    short: int
    factor: float
    severity: Literal["page", "ticket"]


ALERTS = (
    Alert(3600, 300, 14.4, "page"),
    Alert(6 * 3600, 1800, 6.0, "page"),
    Alert(86_400, 2 * 3600, 3.0, "ticket"),
    Alert(3 * 86_400, 6 * 3600, 1.0, "ticket"),
)
_KEPT = int(ALERTS[-1].long / RESOLUTION) + 1


class EventHistory:
    """Counts of one objective over the longest window, one a minute."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, Events]] = deque(maxlen=_KEPT)
        self.now = Events(0, 0)

    def add(self, at: float, events: Events) -> None:
        """Note the counts so far; ``at`` in seconds of a clock that never goes back."""
        self.now = events
        if not self._counts or at - self._counts[-1][0] >= RESOLUTION:
            self._counts.append((at, events))

    def within(self, at: float, seconds: float) -> Events:
        """Events of the last ``seconds``, or of as many as are known."""
        start = Events(0, 0)
        for index in range(len(self._counts) - 1, -1, -1):
            start_at, start = self._counts[index]
            if start_at <= at - seconds:
                break
        else:
            # the process is younger than the window: everything since its first count
            start = self._counts[0][1] if self._counts else start
        # merged counts of workers may step back when one is replaced
        return Events(max(self.now.total - start.total, 0), max(self.now.bad - start.bad, 0))


class StabilityMonitor:
    """All objectives of a server."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.objectives = tuple(objectives)
        self._history = {objective.name: EventHistory() for objective in self.objectives}
        self._at = 0.0

    def add(self, at: float, snapshot: Snapshot) -> None:
        """Note a snapshot's counts; ``at`` in seconds of a clock that never goes back."""
        self._at = at
        for objective in self.objectives:
            self._history[objective.name].add(at, objective.events(snapshot))

    def burn_rate(self, objective: Objective, seconds: float) -> float | None:
        """Speed at which the budget is used: 1 uses it up exactly; ``None`` for too few requests."""
        events = self._history[objective.name].within(self._at, seconds)
        if events.total < LEAST_EVENTS:
            return None
        return events.bad / events.total / (1 - objective.target)

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that fire now."""
        firing = []
        for objective in self.objectives:
            for alert in ALERTS:
                long = self.burn_rate(objective, alert.long)
                short = self.burn_rate(objective, alert.short)
                if long is not None and short is not None and min(long, short) > alert.factor:
                    firing.append(
                        {
                            "slo": objective.name,
                            "severity": alert.severity,
                            "window": window(alert.long),
                            "burn_rate": long,
                        }
                    )
        return firing

    def samples(self) -> Iterator[Sample]:
        """All ``deepseek_slo_*``."""
        for objective in self.objectives:
            label = (objective.name,)
            events = self._history[objective.name].now
            yield Sample("deepseek_slo_objective_ratio", label, objective.target)
            yield Sample("deepseek_slo_events", label, events.total)
            yield Sample("deepseek_slo_bad_events", label, events.bad)
            for seconds in sorted({s for alert in ALERTS for s in (alert.long, alert.short)}):
                if (rate := self.burn_rate(objective, seconds)) is not None:
                    yield Sample("deepseek_slo_burn_rate", (*label, window(seconds)), rate)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON for a page."""
        return {
            "objectives": [
                {
                    **objective.model_dump(mode="json"),
                    "events": self._history[objective.name].now._asdict(),
                    "burn_rates": {
                        window(seconds): self.burn_rate(objective, seconds)
                        for seconds in sorted({s for alert in ALERTS for s in (alert.long, alert.short)})
                    },
                }
                for objective in self.objectives
            ],
            "alerts": self.alerts(),
        }


def window(seconds: int) -> str:
    """A duration as Prometheus writes it: ``5m``, ``1h``, ``3d``."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"

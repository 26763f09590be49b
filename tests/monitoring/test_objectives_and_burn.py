"""Objectives count what they promise about, and alerts need a long and a short window."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitoring_fakes import QueueFullError, status_of
from pydantic import ValidationError

from deepseek.monitoring import MonitoringConfig, Objective
from deepseek.monitoring.metrics import RequestMeters, take
from deepseek.monitoring.metrics.samples import total
from deepseek.monitoring.stability import DEFAULT_OBJECTIVES, StabilityMonitor

AVAILABILITY = Objective(name="up", kind="availability", target=0.999)
FAST = Objective(name="fast", kind="latency", target=0.9, threshold_seconds=0.1, operation="infer*")
MINUTE = 60.0


def meters(*requests: tuple[str, float, Exception | None]) -> dict[str, Any]:
    made = RequestMeters(status_of)
    made.add_model("m", "1")
    for operation, seconds, error in requests:
        made.meter("rest", operation, "m", "1").record(seconds, error)
    return take([made])


def test_only_our_own_faults_count_against_availability() -> None:
    snapshot = meters(
        ("infer", 0.1, None),
        ("infer", 0.1, QueueFullError()),
        ("chat", 0.1, ValueError()),
        ("chat", 0.1, RuntimeError()),
    )
    assert AVAILABILITY.events(snapshot) == (4, 1)


def test_latency_counts_answers_of_its_operations_exactly() -> None:
    snapshot = meters(
        ("infer", 0.1, None),
        ("infer", 0.1001, None),
        ("infer_stream", 5, None),
        ("chat", 5, None),
        ("infer", 5, RuntimeError()),
    )
    assert FAST.events(snapshot) == (3, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "latency"}, "for a latency objective"),
        ({"kind": "availability", "threshold_seconds": 0.1}, "for that alone"),
        ({"kind": "latency", "threshold_seconds": 0.11}, "expected one of 0.0005, 0.001"),
        ({"kind": "availability", "target": 1}, "less than 1"),
        ({"kind": "availability", "name": "Not a label"}, "pattern"),
    ],
)
def test_impossible_objectives_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Objective(**{"name": "x", "target": 0.9, **settings})


def test_objectives_need_names_of_their_own() -> None:
    with pytest.raises(ValidationError, match="different names, received up, up"):
        MonitoringConfig(objectives=(AVAILABILITY, AVAILABILITY))


class Traffic:
    """A server with so many requests a minute, some of which fail."""

    def __init__(self) -> None:
        self.monitor = StabilityMonitor([AVAILABILITY])
        self.at = 0.0
        self.requests = self.failures = 0
        self.tick()

    def tick(self) -> None:
        labels = ["rest", "infer", "m", "1"]
        counts = [[[*labels, "200"], self.requests - self.failures], [[*labels, "500"], self.failures]]
        self.monitor.add(self.at, {"format": "deepseek.metrics/1", "samples": {"deepseek_requests": counts}})

    def run(self, minutes: int, *, failing: float = 0, rate: int = 1000) -> Traffic:
        for _ in range(minutes):
            self.at += MINUTE
            self.requests += rate
            self.failures += round(rate * failing)
            self.tick()
        return self

    @property
    def alerts(self) -> list[tuple[str, str]]:
        return [(alert["severity"], alert["window"]) for alert in self.monitor.alerts()]


def test_a_fast_burn_pages_and_ends_soon_after() -> None:
    traffic = Traffic().run(60 * 24 * 3)
    assert traffic.alerts == []
    traffic.run(3, failing=0.5)
    assert ("page", "1h") in traffic.alerts  # 1,500 of 60,000 in the hour: 25 times the budget's speed
    traffic.run(5)
    assert ("page", "1h") not in traffic.alerts  # the short window has nothing of it any more


def test_a_blip_pages_nobody() -> None:
    traffic = Traffic().run(60 * 24).run(1, failing=0.5)
    assert ("page", "1h") not in traffic.alerts  # 500 of 60,000: 8 times
    burn = traffic.monitor.burn_rate(AVAILABILITY, 300)
    assert burn == pytest.approx(100)


def test_a_slow_burn_is_a_ticket() -> None:
    traffic = Traffic().run(60 * 24 * 3).run(60 * 24, failing=0.004)
    assert traffic.alerts == [("ticket", "1d"), ("ticket", "3d")]


def test_a_young_server_is_judged_by_what_there_is() -> None:
    traffic = Traffic().run(10, failing=0.05)
    assert traffic.monitor.burn_rate(AVAILABILITY, 86_400) == pytest.approx(50)
    assert ("page", "1h") in traffic.alerts


def test_a_handful_of_requests_is_no_rate() -> None:
    traffic = Traffic().run(3, failing=1, rate=5)
    assert traffic.monitor.burn_rate(AVAILABILITY, 3600) is None
    assert traffic.alerts == []
    assert "deepseek_slo_burn_rate" not in take([traffic.monitor])["samples"]


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), min_size=1, max_size=60))
def test_a_window_is_what_happened_in_it(minutes: list[tuple[int, float]]) -> None:
    traffic = Traffic()
    for rate, failing in minutes:
        traffic.run(1, failing=failing, rate=rate)
    last = minutes[-5:]
    events = sum(rate for rate, _ in last)
    failures = sum(round(rate * failing) for rate, failing in last)
    burn = traffic.monitor.burn_rate(AVAILABILITY, 300)
    assert burn == (pytest.approx(failures / events / 0.001) if events >= 20 else None)


def test_counts_that_step_back_are_no_failures() -> None:
    traffic = Traffic().run(10)
    traffic.requests = traffic.failures = 0  # another process took over
    traffic.run(5)
    assert traffic.monitor.burn_rate(AVAILABILITY, 300) in (None, 0.0)


def test_what_rules_read_is_there_from_the_start() -> None:
    monitor = StabilityMonitor(DEFAULT_OBJECTIVES)
    snapshot = take([monitor])
    assert total(snapshot, "deepseek_slo_bad_events", {"slo": "latency"})[0] == 0
    assert len(snapshot["samples"]["deepseek_slo_bad_events"]) == 2
    assert total(snapshot, "deepseek_slo_objective_ratio", {"slo": "availability"})[0] == 0.999

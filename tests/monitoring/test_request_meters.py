"""Counts are exact, labels are bounded, and several processes add up."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitoring_fakes import QueueFullError, status_of

from deepseek.monitoring import ServerMonitor
from deepseek.monitoring.metrics import Merged, RequestMeters, merge, take
from deepseek.monitoring.metrics.histogram import Histogram, quantile
from deepseek.monitoring.metrics.samples import total

OUTCOMES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.floats(0, 100),
        st.sampled_from([None, QueueFullError("full"), ValueError("theirs"), RuntimeError("ours")]),
    ),
    max_size=60,
)


def requests(snapshot: dict[str, Any]) -> dict[tuple[str, ...], float]:
    return {tuple(labels): value for labels, value in snapshot["samples"].get("deepseek_requests", ())}


def counted(outcomes: list[tuple[int, float, Exception | None]]) -> dict[str, Any]:
    meters = RequestMeters(status_of)
    meters.add_model("m", "1")
    for _, seconds, error in outcomes:
        meters.meter("rest", "infer", "m", "1").record(seconds, error)
    return take([meters])


@given(OUTCOMES)
def test_every_request_is_counted_once_under_its_status(outcomes: list[tuple[int, float, Exception | None]]) -> None:
    snapshot = counted(outcomes)
    codes = [200 if error is None else status_of(error) for _, _, error in outcomes]
    assert requests(snapshot) == {("rest", "infer", "m", "1", str(c)): codes.count(c) for c in set(codes)}
    seconds, durations = total(snapshot, "deepseek_request_duration_seconds")
    assert sum(durations or []) == len(outcomes)
    assert seconds == pytest.approx(sum(s for _, s, _ in outcomes))
    assert total(snapshot, "deepseek_requests_refused")[0] == codes.count(429)


@given(OUTCOMES)
@settings(max_examples=50)
def test_workers_together_count_what_one_process_would(outcomes: list[tuple[int, float, Exception | None]]) -> None:
    parts = [counted([o for o in outcomes if o[0] == worker]) for worker in range(4)]
    together, alone = merge(json.loads(json.dumps(parts))), counted(outcomes)
    assert requests(together) == requests(alone)
    for name in ("deepseek_request_duration_seconds", "deepseek_requests_refused"):
        amount, counts = total(together, name)
        assert counts == total(alone, name)[1]
        assert amount == pytest.approx(total(alone, name)[0])


def test_a_worker_that_died_leaves_its_counts_and_takes_its_gauges() -> None:
    def worker(count: int, queued: int) -> dict[str, Any]:
        snapshot = counted([(0, 0.1, None)] * count)
        snapshot["samples"]["deepseek_queue_rows"] = [[["m", "1"], queued]]
        return snapshot

    merged = Merged()
    merged.update("a", worker(5, 7))
    merged.update("b", worker(3, 1))
    merged.update("a", worker(6, 2))
    assert total(merged.snapshot(), "deepseek_requests")[0] == 9
    assert total(merged.snapshot(), "deepseek_queue_rows")[0] == 3
    merged.retire("a")
    merged.update("a", worker(1, 0))  # its successor starts at zero
    merged.retire("never seen")
    assert total(merged.snapshot(), "deepseek_requests")[0] == 10
    assert total(merged.snapshot(), "deepseek_queue_rows")[0] == 1


def test_gauges_of_one_machine_are_not_added() -> None:
    parts = [{"format": "deepseek.metrics/1", "samples": {"deepseek_host_cpu_ratio": [[[], v]]}} for v in (0.5, 0.75)]
    assert total(merge(parts), "deepseek_host_cpu_ratio")[0] == 0.75


def test_metrics_of_a_newer_worker_are_left_out() -> None:
    assert merge([{"format": "deepseek.metrics/1", "samples": {"deepseek_new": [[[], 1]]}}])["samples"] == {}


def test_names_that_clients_make_up_never_become_labels() -> None:
    meters = RequestMeters(status_of)
    meters.add_model("known", "1")
    for number in range(500):
        meters.meter("rest", "infer", f"made-up-{number}", "1").record(0.1, ValueError("unknown"))
        meters.meter("rest", "infer", "known", f"v{number}").record(0.1, ValueError("unknown"))
    meters.meter("rest", "infer", "known", "1").record(0.1, None)
    assert requests(take([meters])) == {
        ("rest", "infer", "other", "other", "400"): 1000,
        ("rest", "infer", "known", "1", "200"): 1,
    }


def test_series_are_bounded_and_models_that_are_gone_make_room() -> None:
    meters = RequestMeters(status_of, max_series=4)
    for number in range(6):
        meters.add_model("m", str(number))
        meters.meter("rest", "infer", "m", str(number)).record(0.1, None)
    found = requests(take([meters]))
    assert len(found) == 5  # four, and one for all others
    assert found["other", "other", "other", "other", "200"] == 2
    meters.remove_model("m", "0")
    meters.add_model("new", "1")
    meters.meter("rest", "infer", "new", "1").record(0.1, None)
    found = requests(take([meters]))
    assert ("rest", "infer", "new", "1", "200") in found
    assert ("rest", "infer", "m", "0", "200") not in found


def test_a_meter_is_the_same_each_time() -> None:
    meters = RequestMeters(status_of)
    meters.add_model("m", "1")
    assert meters.meter("rest", "infer", "m", "1") is meters.meter("rest", "infer", "m", "1")
    assert meters.meter("rest", "infer", "x", "1") is meters.meter("rest", "infer", "y", "1")


def test_codes_and_reasons_are_bounded() -> None:
    meters = RequestMeters(lambda error: int(str(error)), reason_of=str)
    meter = meters.meter("rest", "infer", "", "")
    for code in range(400, 500):
        meter.record(0.1, ValueError(str(code)))
    assert len(requests(take([meters]))) == 25
    refusals = RequestMeters(lambda error: 429, reason_of=str)
    for number in range(100):
        refusals.meter("rest", "infer", "", "").record(0.1, ValueError(str(number)))
    found = take([refusals])["samples"]["deepseek_requests_refused"]
    assert len(found) == 17
    assert sum(value for _, value in found) == 100


@given(st.lists(st.floats(0, 80), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], q: float) -> None:
    histogram = Histogram((1.0, 2.0, 5.0, 10.0, 100.0))
    for value in values:
        histogram.observe(value)
    estimate = quantile(q, histogram.bounds, histogram.counts)
    true = sorted(values)[math.ceil(q * len(values) - 1e-9) - 1]
    bucket = next(i for i, bound in enumerate(histogram.bounds) if true <= bound)
    assert estimate is not None
    lower = histogram.bounds[bucket - 1] if bucket else 0.0
    assert lower <= estimate <= histogram.bounds[min(bucket + 1, 4)]


def test_no_observations_have_no_quantile() -> None:
    assert quantile(0.5, (1.0,), [0, 0]) is None
    assert quantile(0.5, (1.0,), [0, 3]) == 1.0


def test_a_model_that_is_gone_takes_its_metrics_along(monitor: ServerMonitor) -> None:
    meter = monitor.model("sentiment", "1")
    meter.ran(2, 0.1)
    assert total(monitor.metrics(), "deepseek_batch_rows")[0] == 2
    monitor.remove_model("sentiment", "1")
    meter.ran(2, 0.1)  # its last batch ends afterwards
    snapshot = monitor.metrics()
    assert "deepseek_batch_rows" not in snapshot["samples"]
    assert "deepseek_model" not in snapshot["samples"]
    monitor.model("sentiment", "1").ran(1, 0.1)
    assert "deepseek_batch_rows" not in monitor.metrics()["samples"]

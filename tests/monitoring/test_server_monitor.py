"""The facade that a server holds, on an event loop as a server runs it."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from monitoring_fakes import QueueFullError, status_of
from pydantic import ValidationError

from deepseek.errors import UnknownNameError
from deepseek.monitoring import Label, ModelState, MonitoringConfig, ServerMonitor
from deepseek.monitoring.history import MODEL_SERIES, SERVER_SERIES, History
from deepseek.monitoring.metrics import Merged, take
from deepseek.monitoring.metrics.samples import total
from deepseek.monitoring.quality import QualityConfig

QUICK = MonitoringConfig(step_seconds=0.05, quality=QualityConfig(interval_seconds=0.05, min_rows=1))


def serve(work: Callable[[ServerMonitor], Awaitable[Any]], config: MonitoringConfig = QUICK) -> Any:
    """Run ``work`` beside a started monitor of one model."""

    async def run() -> Any:
        monitor = ServerMonitor(config, status_of=status_of, in_flight=lambda: 3, version="1.2.3")
        monitor.add_model(
            "sentiment", "1", state=lambda: ModelState(ready=True, queued_rows=4, queue_limit=8), task="t", platform="p"
        )
        await monitor.start()
        try:
            return await work(monitor)
        finally:
            await monitor.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_page_gets_everything_in_one_snapshot() -> None:
    async def work(monitor: ServerMonitor) -> dict[str, Any]:
        meter, model = monitor.meters.meter("rest", "infer", "sentiment", "1"), monitor.model("sentiment", "1")
        quality = monitor.quality("sentiment")
        assert quality is not None
        for number in range(50):
            meter.record(0.004, None)
            model.ran(5, 0.01)
            model.used(5, 10, 20)
            quality.answered(f"r{number}", [{}], [{"label": "a", "score": 0.75}])
        meter.record(0.004, RuntimeError())
        meter.record(0.004, QueueFullError())
        meter.record(0.004, ValueError())
        await monitor.add_labels("sentiment", [Label("r1", "a"), Label("r2", "b")])
        await until(lambda: quality.live.labels == 2)
        steps = len(monitor.snapshot()["history"]["times"])
        await until(lambda: len(monitor.snapshot()["history"]["times"]) > steps + 1)
        return monitor.snapshot()

    page = json.loads(json.dumps(serve(work)))  # plain JSON
    assert (page["format"], page["version"], page["in_flight"]) == ("deepseek.monitor/1", "1.2.3", 3)
    (model,) = page["models"]
    assert {k: model[k] for k in ("name", "version", "task", "platform", "ready", "queued_rows", "queue_limit")} == {
        "name": "sentiment", "version": "1", "task": "t", "platform": "p", "ready": True, "queued_rows": 4,
        "queue_limit": 8,
    }  # fmt: skip
    assert (model["rows"], model["output_tokens"]) == (250, 1000)
    assert model["quality"]["live"]["accuracy"]["value"] == 0.5
    assert model["quality"]["mean_confidence"] == 0.75
    history = page["history"]
    assert set(history["server"]) == set(SERVER_SERIES)
    assert set(history["models"]["sentiment/1"]) == set(MODEL_SERIES)
    points = len(history["times"])
    assert all(len(s) == points for s in [*history["server"].values(), *history["models"]["sentiment/1"].values()])
    assert any(rate for rate in history["server"]["error_rate"])
    assert any(rate for rate in history["server"]["refusal_rate"])
    assert any(rate for rate in history["server"]["client_error_rate"])
    assert {rows for rows in history["server"]["batch_rows"] if rows is not None} == {5.0}
    assert {score for score in history["server"]["confidence"] if score is not None} == {0.75}
    assert max(history["server"]["memory_used"]) > 0
    assert page["resources"]["machine"]["threads"] > 0
    names = [objective["name"] for objective in page["stability"]["objectives"]]
    assert names == ["availability", "latency"]
    assert page["stability"]["objectives"][0]["events"] == {"total": 53, "bad": 1}
    assert [a["severity"] for a in page["stability"]["alerts"]] == ["page", "page", "ticket", "ticket"]


def test_a_scrape_is_this_process_or_all_of_them() -> None:
    async def work(monitor: ServerMonitor) -> tuple[str, str]:
        monitor.meters.meter("rest", "infer", "sentiment", "1").record(0.004, None)
        workers = Merged()
        workers.update("1", monitor.metrics())
        workers.update("2", json.loads(json.dumps(monitor.metrics())))
        alone = await monitor.scrape("application/openmetrics-text")
        return alone.body.decode(), (await monitor.scrape(snapshot=workers.snapshot())).body.decode()

    alone, together = serve(work)
    line = 'deepseek_requests_total{code="200",model="sentiment",operation="infer",protocol="rest",version="1"}'
    assert f"{line} 1.0" in alone
    assert alone.endswith("# EOF\n")
    assert f"{line} 2.0" in together
    assert 'deepseek_slo_objective_ratio{slo="availability"} 0.999' in together


def test_points_can_be_limited(monitor: ServerMonitor) -> None:
    for at in range(10):
        monitor._history.add(float(at), monitor.metrics(), now=1000.0 + at, extra={})
    assert monitor.snapshot(points=3)["history"]["times"] == [1007.0, 1008.0, 1009.0]
    assert len(monitor.snapshot(points=100)["history"]["times"]) == 9


def test_models_come_and_go(monitor: ServerMonitor, tmp_path: Path) -> None:
    monitor.add_model("sentiment", "2", state=lambda: ModelState(ready=False), reference_accuracy=0.9)
    newest, first = monitor.quality("sentiment"), monitor.quality("sentiment", "1")
    assert newest is not None
    assert first is not None
    assert (newest.version, first.version) == ("2", "1")
    assert total(monitor.metrics(), "deepseek_model_ready")[0] == 1
    monitor.remove_model("sentiment", "1")
    monitor.remove_model("never", "1")
    assert [model["version"] for model in monitor.snapshot()["models"]] == ["2"]
    assert total(monitor.metrics(), "deepseek_model_ready")[0] == 0
    with pytest.raises(UnknownNameError, match="sentiment"):
        monitor.quality("sentimant")


def test_quality_can_be_left_out() -> None:
    async def work(monitor: ServerMonitor) -> dict[str, Any]:
        assert monitor.quality("sentiment") is None
        with pytest.raises(UnknownNameError, match="not watched"):
            await monitor.add_labels("sentiment", [])
        return monitor.snapshot()

    assert serve(work, MonitoringConfig(quality=None))["models"][0]["quality"] is None


def test_answers_wait_in_the_folder_for_the_next_start(tmp_path: Path) -> None:
    config = MonitoringConfig(quality=QualityConfig(spill_folder=str(tmp_path / "answers")))

    async def answer(monitor: ServerMonitor) -> None:
        monitor.add_model("../up/and away", "1", state=lambda: ModelState(ready=True))
        for name in ("sentiment", "../up/and away"):
            quality = monitor.quality(name)
            assert quality is not None
            quality.answered("r1", [{}], [{"label": "a"}])

    async def label(monitor: ServerMonitor) -> dict[str, int]:
        return await monitor.add_labels("sentiment", [Label("r1", "a")])

    serve(answer, config)
    names = sorted(path.name for path in (tmp_path / "answers").glob("*.sqlite"))
    assert names == [".._up_and_away-1.sqlite", "sentiment-1.sqlite"]
    assert serve(label, config)["joined"] == 1


def test_a_step_that_fails_is_logged_and_the_next_one_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    async def work(monitor: ServerMonitor) -> None:
        before = monitor.resources.read
        monitor.resources.read = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        await until(lambda: "a step of the monitoring failed" in caplog.text)
        monitor.resources.read = before  # type: ignore[method-assign]
        steps = len(monitor.snapshot()["history"]["times"])
        await until(lambda: len(monitor.snapshot()["history"]["times"]) > steps)

    serve(work)


def test_closing_leaves_nothing_behind() -> None:
    import threading

    level = logging.getLogger("deepseek").level
    before = set(threading.enumerate())

    async def work(monitor: ServerMonitor) -> None:
        await until(lambda: len(monitor.snapshot()["history"]["times"]) > 1)

    serve(work)
    alive = [t for t in threading.enumerate() if t.name.startswith("deepseek-") and t not in before]
    for thread in alive:
        thread.join(10)
    assert not [thread for thread in alive if thread.is_alive()]
    assert logging.getLogger("deepseek").level == level


def test_charts_count_what_happened_between_two_looks() -> None:
    history = History(step_seconds=5, minutes=1)

    def look(ok: int, failed: int) -> dict[str, Any]:
        labels = ["rest", "infer", "m", "1"]
        buckets = [0] * 18
        buckets[4] = ok  # 5 to 10 ms
        return {
            "format": "deepseek.metrics/1",
            "samples": {
                "deepseek_model": [[["m", "1", "t", "p"], 1]],
                "deepseek_requests": [[[*labels, "200"], ok], [[*labels, "503"], failed]],
                "deepseek_request_duration_seconds": [[[*labels, "200"], [buckets, ok * 0.007]]],
            },
        }

    for at, ok, failed in ((0, 100, 0), (5, 200, 10), (10, 200, 10), (15, 50, 0)):  # the last is another process
        history.add(at, look(ok, failed), now=1000.0 + at, extra={"loop_lag": 0.5})
    shown = history.to_dict()
    assert shown["times"] == [1005.0, 1010.0, 1015.0]
    assert shown["server"]["request_rate"] == [20.0, 0.0, 0.0]
    assert shown["server"]["error_rate"] == [2.0, 0.0, 0.0]
    assert shown["server"]["p50"] == [pytest.approx(0.0075), None, None]
    assert shown["server"]["loop_lag"] == [0.5] * 3
    assert shown["models"]["m/1"]["request_rate"] == [20.0, 0.0, 0.0]
    for at in range(20, 200, 5):
        history.add(at, look(50, 0), now=1000.0 + at, extra={})
    assert len(history.to_dict()["times"]) == 12
    late = look(50, 0)
    late["samples"]["deepseek_model"].append([["n", "1", "t", "p"], 1])
    history.add(200, late, now=1200.0, extra={})
    assert [len(series) for series in history.to_dict()["models"]["n/1"].values()] == [12] * len(MODEL_SERIES)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"step_second": 5}, "step_second"),
        ({"quality": {"sample_rows": 0}}, "quality.sample_rows"),
        ({"logs": {"level": "loud"}}, "logs.level"),
        ({"tracing": {"ratio": 2}}, "tracing.ratio"),
    ],
)
def test_wrong_settings_name_their_place(settings: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MonitoringConfig.model_validate(settings)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == place


def test_settings_are_plain_data() -> None:
    config = MonitoringConfig.model_validate(
        {
            "objectives": [
                {"name": "chat", "kind": "latency", "target": 0.95, "threshold_seconds": 10, "operation": "chat*"}
            ]
        }
    )
    assert MonitoringConfig.model_validate_json(config.model_dump_json()) == config


def test_it_stands_alone() -> None:
    """No serving, and nothing heavy before it is used."""
    code = (
        "import sys, deepseek.monitoring as m\n"
        "assert not {'pydantic', 'prometheus_client', 'psutil', 'numpy'} & set(sys.modules), 'import'\n"
        "m.ServerMonitor(status_of=lambda e: 500).metrics()\n"
        "names = set(sys.modules)\n"
        "assert not {'torch', 'pyarrow', 'lance', 'opentelemetry'} & names, 'use'\n"
        "assert not any(name.startswith(('deepseek.serving', 'grpc')) for name in names), 'serving'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_servers_own_samples(monitor: ServerMonitor) -> None:
    snapshot = take([monitor])
    assert total(snapshot, "deepseek_worker_restarts")[0] == 2
    assert total(snapshot, "deepseek_requests_in_flight")[0] == 2

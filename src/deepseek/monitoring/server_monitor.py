"""All monitoring of one server process, behind one object that the server holds.

On the way of a request are only the meters, the access line's and the tracer's comparisons, and the sampling's.
Everything else happens at steps of some seconds: machine, GPUs and drift in a thread of the monitor's own, snapshots on
the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform as python_platform
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.monitoring import steady
from deepseek.monitoring.config import MonitoringConfig
from deepseek.monitoring.history import History
from deepseek.monitoring.logs.setup import Logs
from deepseek.monitoring.metrics.exposition import Exposition, render
from deepseek.monitoring.metrics.models import ModelMeter, ModelState
from deepseek.monitoring.metrics.requests import OTHER, RequestMeters
from deepseek.monitoring.metrics.samples import Sample, Snapshot, Source, take
from deepseek.monitoring.quality.monitor import Label, QualityMonitor
from deepseek.monitoring.quality.predictions import PredictionStore
from deepseek.monitoring.quality.spill import SpillFile
from deepseek.monitoring.resources.monitor import ResourceMonitor
from deepseek.monitoring.stability.burn import StabilityMonitor
from deepseek.monitoring.tracing.tracer import Tracer

logger = logging.getLogger("deepseek.monitoring")

FORMAT = "deepseek.monitor/1"
Model = tuple[str, str]


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """What fails in one step must not end the monitoring, nor the rest of the step."""
    try:
        yield
    except Exception:
        logger.exception("a step of the monitoring failed; the next one is tried")


class ServerMonitor:
    """Watches one server; everything but :meth:`add_labels`' work belongs to the event loop's thread.

    Args:
        status_of: the HTTP status that a client is told for an exception; it must neither raise nor log.
        reason_of: what a request that got 429 had exhausted; by default the exception's name.
        in_flight: how many requests are being answered.
        worker_restarts: how many worker processes were started because another had died.
        version: the server's.

    Raises:
        MissingExtraError: tracing is configured, and OpenTelemetry is not installed.
        ConfigError: the answers' folder cannot be written.
    """

    def __init__(
        self,
        config: MonitoringConfig | None = None,
        *,
        status_of: Callable[[BaseException], int],
        reason_of: Callable[[BaseException], str] | None = None,
        in_flight: Callable[[], int] = lambda: 0,
        worker_restarts: Callable[[], int] = lambda: 0,
        version: str = "",
    ) -> None:
        self._version = version
        self.config = config = config or MonitoringConfig()
        self.meters = RequestMeters(status_of, reason_of=reason_of, max_series=config.max_series)
        """Fits :class:`deepseek.serving.gateway.Meters`."""
        self.resources = ResourceMonitor(config.resources)
        self.stability = StabilityMonitor(config.objectives)
        self.tracer = Tracer(config.tracing, version=version) if config.tracing is not None else None
        """``None``: no traces are made."""
        self.logs = Logs(config.logs)
        self._in_flight, self._worker_restarts = in_flight, worker_restarts
        self._models: dict[Model, ModelMeter] = {}
        self._qualities: dict[Model, QualityMonitor] = {}
        self._other = ModelMeter(OTHER, OTHER, "", "", lambda: ModelState(ready=False))
        self._history = History(config.step_seconds, config.history_minutes)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="deepseek-monitor")
        self._task: asyncio.Task[None] | None = None
        self._started = steady.now()

    def add_model(
        self,
        name: str,
        version: str,
        *,
        state: Callable[[], ModelState],
        task: str = "",
        platform: str = "",
        reference: Mapping[str, Any] | None = None,
        answer_column: str | None = None,
        reference_accuracy: float | None = None,
        positive: str | None = None,
    ) -> ModelMeter:
        """Watch a model from when it is loaded; its name becomes a label.

        ``state`` is asked for readiness and queue when somebody looks. ``reference`` and the rest are what the bundle
        knows: see :class:`deepseek.monitoring.quality.QualityMonitor`.
        """
        self.meters.add_model(name, version)
        meter = self._models[name, version] = ModelMeter(name, version, task, platform, state)
        if self.config.quality is not None:
            self._qualities[name, version] = QualityMonitor(
                name,
                version,
                self.config.quality,
                reference=reference,
                answer_column=answer_column,
                reference_accuracy=reference_accuracy,
                positive=positive,
                store=self._store(name, version),
            )
        return meter

    def _store(self, name: str, version: str) -> PredictionStore:
        config = self.config.quality
        assert config is not None
        spill = None
        if config.spill_folder:
            file = re.sub(r"[^A-Za-z0-9._-]", "_", f"{name}-{version}") + ".sqlite"
            try:
                spill = SpillFile(Path(config.spill_folder) / file, config.spill_rows)
            except ConfigError:
                if self._task is None:
                    raise
                # a model that is loaded later, on a full disk, say, is served all the same
                logger.exception("answers of model %r that memory has no room for are forgotten", name)
        return PredictionStore(capacity=config.keep_answers, keep_seconds=config.keep_seconds, spill=spill)

    def remove_model(self, name: str, version: str) -> None:
        """A model was unloaded: its own metrics end; those of its requests stay until their place is needed."""
        self.meters.remove_model(name, version)
        self._models.pop((name, version), None)
        quality = self._qualities.pop((name, version), None)
        if quality is not None:
            self._thread.submit(quality.close)

    def model(self, name: str, version: str) -> ModelMeter:
        """A model's meter; one that is not exposed for a model that was never added, or is gone."""
        return self._models.get((name, version), self._other)

    def quality(self, name: str, version: str = "") -> QualityMonitor | None:
        """A model's quality, the version added last when none is given; ``None`` when quality is not watched.

        Raises:
            UnknownNameError: there is no such model.
        """
        if self.config.quality is None:
            return None
        found = [q for (model, v), q in self._qualities.items() if model == name and version in ("", v)]
        if not found:
            raise UnknownNameError("model", name, {model for model, _ in self._qualities})
        return found[-1]

    async def add_labels(self, name: str, labels: Iterable[Label], version: str = "") -> dict[str, int]:
        """Join true answers with what was predicted; how many were joined, late, unknown, duplicate, invalid.

        Raises:
            UnknownNameError: there is no such model, or quality is not watched.
        """
        quality = self.quality(name, version)
        if quality is None:
            raise UnknownNameError("model", name, (), hint="Quality is not watched: see monitoring.quality.")
        return await asyncio.get_running_loop().run_in_executor(self._thread, quality.add_labels, list(labels))

    def metrics(self) -> Snapshot:
        """All metrics of this process, as a worker sends them to be merged."""
        snapshot = take(self._sources())
        self.stability.add(time.monotonic(), snapshot)
        snapshot["samples"] |= take([self.stability])["samples"]
        return snapshot

    def _sources(self) -> Iterator[Source]:
        yield self
        yield self.meters
        yield from self._models.values()
        yield self.resources
        yield from self._qualities.values()
        yield self.logs

    def samples(self) -> Iterator[Sample]:
        """What is the server's own."""
        yield Sample("deepseek_build", (self._version, python_platform.python_version()), 1)
        yield Sample("deepseek_requests_in_flight", (), self._in_flight())
        yield Sample("deepseek_worker_restarts", (), self._worker_restarts())

    async def scrape(self, accept: str = "", snapshot: Snapshot | None = None) -> Exposition:
        """Answer Prometheus: this process's metrics, or a merged ``snapshot``, rendered in the monitor's thread."""
        work = partial(render, self.metrics() if snapshot is None else snapshot, accept)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def snapshot(self, points: int | None = None) -> dict[str, Any]:
        """Everything that a console page shows, as plain JSON; ``points`` limits the series to the newest.

        ``history`` has the series (see :mod:`deepseek.monitoring.history`), ``models`` the state and quality of each
        model, ``resources`` the last look at machine and GPUs, ``stability`` objectives, burn rates and alerts.
        """
        return {
            "format": FORMAT,
            "version": self._version,
            "started": self._started,
            "now": steady.now(),
            "step_seconds": self.config.step_seconds,
            "in_flight": self._in_flight(),
            "history": self._history.to_dict(points),
            "models": [self._described(model, meter) for model, meter in self._models.items()],
            "resources": self.resources.to_dict(),
            "stability": self.stability.to_dict(),
        }

    def _described(self, model: Model, meter: ModelMeter) -> dict[str, Any]:
        quality = self._qualities.get(model)
        return {
            "name": model[0],
            "version": model[1],
            "task": meter.task,
            "platform": meter.platform,
            **meter.state._asdict(),
            "rows": meter.rows,
            "input_tokens": meter.input_tokens,
            "output_tokens": meter.output_tokens,
            "quality": quality.to_dict() if quality is not None else None,
        }

    async def start(self) -> None:
        """Begin logging and the steps; call it on the event loop that serves."""
        self.logs.open()
        self.resources.lag.start()
        await asyncio.get_running_loop().run_in_executor(self._thread, self.resources.read)
        self._note()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        step = self.config.step_seconds
        interval = self.config.quality.interval_seconds if self.config.quality is not None else float("inf")
        due, quality_due = loop.time() + step, loop.time() + interval
        while True:
            await asyncio.sleep(max(due - loop.time(), 0))
            due = max(due + step, loop.time())  # after a long pause go on from now, instead of catching up
            work = [self.resources.read]
            if loop.time() >= quality_due:
                quality_due = loop.time() + interval
                work += [quality.process for quality in self._qualities.values()]
            for one in work:
                with _logged():
                    await loop.run_in_executor(self._thread, one)
            with _logged():
                self._note()

    def _note(self) -> None:
        machine = self.resources.machine
        extra = {
            "resident": float(machine.resident) if machine is not None else None,
            "loop_lag": self.resources.lag.worst(),
        }
        self._history.add(time.monotonic(), self.metrics(), now=steady.now(), extra=extra)

    async def close(self) -> None:
        """End the steps, keep what waits for labels, export the last spans, and put logging back as it was."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.get_running_loop().run_in_executor(self._thread, self._release)
        self._thread.shutdown(wait=False)

    def _release(self) -> None:
        for quality in self._qualities.values():
            quality.close()
        self.resources.close()
        if self.tracer is not None:
            self.tracer.close()
        self.logs.close()

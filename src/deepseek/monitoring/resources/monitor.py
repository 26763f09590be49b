"""Resources of a server: the machine and its GPUs, looked at in a thread, and the lag of the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from deepseek.errors import MissingExtraError
from deepseek.monitoring.metrics.families import LAG_BUCKETS
from deepseek.monitoring.metrics.histogram import Histogram
from deepseek.monitoring.metrics.samples import Sample
from deepseek.monitoring.resources.gpus import READERS, GpuReader, GpuReading
from deepseek.monitoring.resources.machine import MachineReader, MachineReading

logger = logging.getLogger("deepseek.monitoring")


class ResourceConfig(BaseModel):
    """Which resources are watched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: bool = Field(default=True, description="Whether GPUs are read, where their makers' libraries are installed.")
    disk: str = Field(default=".", description="A folder on the disk that is watched.")
    lag_interval_seconds: float = Field(default=0.25, gt=0, description="How often the event loop's lag is measured.")


class LoopLag:
    """Measures how late the event loop runs a timer: what every request waits before anything happens for it."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._histogram = Histogram(LAG_BUCKETS)
        self._handle: asyncio.TimerHandle | None = None
        self._worst = 0.0

    def start(self) -> None:
        """Begin; call it on the loop that is measured."""
        self._arm(asyncio.get_running_loop())

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = loop.call_later(self._interval, self._fired, loop, time.monotonic() + self._interval)

    def _fired(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        # Not the loop's clock: uvloop's stands still while callbacks run. Its timers have whole milliseconds, so they
        # may also be early.
        lag = max(0.0, time.monotonic() - due)
        self._histogram.observe(lag)
        self._worst = max(self._worst, lag)
        self._arm(loop)

    def worst(self) -> float:
        """Longest lag since the last call, in seconds."""
        worst, self._worst = self._worst, 0.0
        return worst

    def samples(self) -> Iterator[Sample]:
        """``deepseek_event_loop_lag_seconds``."""
        if any(self._histogram.counts):
            yield Sample("deepseek_event_loop_lag_seconds", (), [list(self._histogram.counts), self._histogram.sum])

    def stop(self) -> None:
        """End measuring."""
        if self._handle is not None:
            self._handle.cancel()


class ResourceMonitor:
    """The latest look at machine and GPUs. :meth:`read` may run in a thread; the rest belongs to the event loop."""

    def __init__(self, config: ResourceConfig) -> None:
        self._machine = MachineReader(config.disk)
        self._gpu_readers = _gpu_readers() if config.gpus else []
        self.lag = LoopLag(config.lag_interval_seconds)
        self.machine: MachineReading | None = None
        """``None`` before the first look."""
        self.gpus: Sequence[GpuReading] = ()

    def read(self) -> None:
        """Look again; blocks for about a millisecond, some more with GPUs."""
        try:
            self.machine = self._machine.read()
        except OSError as error:
            logger.error("the machine's resources could not be read: %s", error)
        found: list[GpuReading] = []
        for reader in list(self._gpu_readers):
            try:
                found += reader.read()
            except OSError as error:  # a GPU that fell off the bus does not come back without a restart
                logger.error("GPUs are not watched any more: %s", error)
                self._gpu_readers.remove(reader)
        self.gpus = found

    def samples(self) -> Iterator[Sample]:
        """All metrics of process, host and GPUs."""
        yield from self.lag.samples()
        machine = self.machine
        if machine is not None:
            yield Sample("deepseek_process_threads", (), machine.threads)
            yield Sample("deepseek_process_cpu_ratio", (), machine.process_cpu)
            yield Sample("deepseek_host_cpu_ratio", (), machine.host_cpu)
            yield Sample("deepseek_host_memory_used_bytes", (), machine.memory_used)
            yield Sample("deepseek_host_memory_limit_bytes", (), machine.memory_limit)
            yield Sample("deepseek_disk_used_bytes", (), machine.disk_used)
            yield Sample("deepseek_disk_size_bytes", (), machine.disk_size)
        for number, gpu in enumerate(self.gpus):
            label = (str(number),)
            yield Sample("deepseek_gpu", (*label, gpu.vendor, gpu.name), 1)
            for name, value in (
                ("deepseek_gpu_utilization_ratio", gpu.utilization),
                ("deepseek_gpu_memory_used_bytes", gpu.memory_used),
                ("deepseek_gpu_memory_size_bytes", gpu.memory_size),
                ("deepseek_gpu_temperature_celsius", gpu.temperature),
                ("deepseek_gpu_power_watts", gpu.power),
            ):
                if value is not None:
                    yield Sample(name, label, value)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON for a page."""
        return {
            "machine": asdict(self.machine) if self.machine is not None else None,
            "gpus": [asdict(gpu) for gpu in self.gpus],
        }

    def close(self) -> None:
        """Stop measuring and release the GPUs' libraries."""
        self.lag.stop()
        for reader in self._gpu_readers:
            reader.close()


def _gpu_readers() -> list[GpuReader]:
    """Readers of the makers whose library and GPUs are here; what is not here is said at debug level."""
    found: list[GpuReader] = []
    for kind in READERS:
        try:
            found.append(kind())
        except (MissingExtraError, OSError) as error:
            logger.debug("%s: %s", kind.__name__, error)
    return found

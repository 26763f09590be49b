from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from monitoring_fakes import QueueFullError, status_of

from deepseek.monitoring import ModelState, MonitoringConfig, ServerMonitor
from deepseek.monitoring.quality import QualityConfig


@pytest.fixture
def full() -> Exception:
    return QueueFullError("no room")


@pytest.fixture
def monitor() -> Iterator[ServerMonitor]:
    """A monitor of one model, whose steps the test takes itself."""
    config = MonitoringConfig(quality=QualityConfig(min_rows=20, window_rows=200))
    watched = ServerMonitor(
        config, status_of=status_of, in_flight=lambda: 2, worker_restarts=lambda: 2, version="1.2.3"
    )
    watched.add_model(
        "sentiment", "1", state=lambda: ModelState(ready=True, queued_rows=3, queue_limit=10), task="t", platform="p"
    )
    yield watched
    watched.resources.close()
    watched.logs.close()


@pytest.fixture(scope="session")
def promtool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Debian's package prometheus has it; where it is not installed only the checks with pyyaml run."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")

    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *arguments], input=stdin, capture_output=True, text=True, timeout=120)

    return run

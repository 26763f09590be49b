"""Resources: this process and machine, a container's limits, GPUs through stubs of their makers' public API."""

from __future__ import annotations

import asyncio
import mmap
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from monitoring_fakes import amdsmi, nvml

from deepseek.errors import MissingExtraError
from deepseek.memory import group_limits
from deepseek.monitoring.metrics import take
from deepseek.monitoring.metrics.samples import total
from deepseek.monitoring.resources import GpuReading, ResourceConfig, ResourceMonitor
from deepseek.monitoring.resources.gpus import AmdReader, NvidiaReader
from deepseek.monitoring.resources.machine import MachineReader

GIB = 1 << 30
H100 = {"name": b"H100", "percent": 87, "used": 40 * GIB, "total": 80 * GIB, "temperature": 61, "milliwatts": 512_500}
MI300 = {
    "name": "MI300X", "percent": 42, "used_mib": 100 * 1024, "total_mib": 192 * 1024, "temperature": 55,
    "power": {"current_socket_power": 400, "average_socket_power": "N/A"},
}  # fmt: skip

Use = Callable[[str, ModuleType], ModuleType]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    def install(name: str, module: ModuleType) -> ModuleType:
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return install


def test_the_process_is_the_one_that_looks() -> None:
    reader = MachineReader()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    reading = reader.read()
    assert 0 < reading.process_cpu <= psutil.cpu_count()
    assert 0 <= reading.host_cpu <= 1
    assert 0 < reading.resident < reading.memory_limit
    assert 0 < reading.memory_used <= reading.memory_limit
    assert 0 < reading.disk_used <= reading.disk_size
    assert reading.threads >= threading.active_count()
    assert reading.open_files is None or reading.open_files > 2


def test_memory_and_files_that_are_taken_are_seen(tmp_path: Path) -> None:
    reader = MachineReader()
    before = reader.read()
    held = mmap.mmap(-1, 64 << 20)  # of its own: the allocator may have as much to reuse
    for page in range(0, 64 << 20, mmap.PAGESIZE):
        held[page] = 1
    opened = [(tmp_path / str(n)).open("w") for n in range(20)]
    gate = threading.Event()
    threads = [threading.Thread(target=gate.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    after = reader.read()
    gate.set()
    for file in opened:
        file.close()
    for thread in threads:
        thread.join()
    held.close()
    assert after.resident - before.resident > 50 << 20
    assert after.threads - before.threads == 5
    assert before.open_files is None or after.open_files == before.open_files + 20


def in_groups(root: Path, membership: str) -> MachineReader:
    """A reader of a process in a control group of a made-up tree."""
    (root / "membership").write_text(membership)
    return MachineReader(limits=lambda: group_limits(root, root / "membership"))


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/", {"memory.max": "1073741824", "memory.current": "600000000", "memory.stat": "anon 5\ninactive_file 100000000\n"}),
        ("9:memory:/", {
            "memory/memory.limit_in_bytes": "1073741824",
            "memory/memory.usage_in_bytes": "600000000",
            "memory/memory.stat": "total_rss 5\ntotal_inactive_file 100000000\n",
        }),
        ("0::/kubepods/pod", {
            "memory.max": "max", "memory.current": "900000000",
            "kubepods/memory.max": "1073741824", "kubepods/memory.current": "600000000",
            "kubepods/memory.stat": "inactive_file 100000000\n",
            "kubepods/pod/memory.max": "8073741824", "kubepods/pod/memory.current": "400000000",
        }),
    ],
)  # fmt: skip
def test_a_containers_tightest_limit_counts(tmp_path: Path, membership: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text + "\n")
    reading = in_groups(tmp_path, membership).read()
    assert (reading.memory_used, reading.memory_limit) == (500_000_000, GIB)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", None])
def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, limit: str | None) -> None:
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
    assert in_groups(tmp_path, "0::/").read().memory_limit == psutil.virtual_memory().total


def test_nvidia_gpus(use: Use) -> None:
    weaker = {**H100, "name": "Laptop", "milliwatts": "NVMLError_NotSupported", "temperature": "NVMLError_NotSupported"}
    module = use("pynvml", nvml([H100, weaker]))
    reader = NvidiaReader()
    first, second = reader.read()
    assert first == GpuReading(
        name="H100", vendor="NVIDIA", utilization=0.87, memory_used=40 * GIB, memory_size=80 * GIB, temperature=61.0,
        power=512.5,
    )  # fmt: skip
    assert (second.name, second.power, second.temperature, second.utilization) == ("Laptop", None, None, 0.87)
    reader.close()
    assert module.calls == ["init", "shutdown"]


def test_amd_gpus(use: Use) -> None:
    older = {
        **MI300,
        "percent": "N/A",
        "temperature": "AMDSMI_STATUS_NOT_SUPPORTED",
        "power": {"current_socket_power": "N/A", "average_socket_power": 95},
    }
    module = use("amdsmi", amdsmi([MI300, older]))
    reader = AmdReader()
    first, second = reader.read()
    assert first == GpuReading(
        name="MI300X", vendor="AMD", utilization=0.42, memory_used=100 * GIB, memory_size=192 * GIB, temperature=55.0,
        power=400.0,
    )  # fmt: skip
    assert (second.utilization, second.temperature, second.power) == (None, None, 95.0)
    reader.close()
    assert module.calls == ["init", "shutdown"]


@pytest.mark.parametrize("reader", [NvidiaReader, AmdReader])
def test_what_is_not_here_is_said(reader: Any, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    use("pynvml", nvml([]))
    use("amdsmi", amdsmi([]))
    with pytest.raises(OSError, match=r"NVML: NVML Shared Library Not Found|AMD SMI: no GPU"):
        reader()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with pytest.raises(MissingExtraError, match=r"deepseek\[gpu"):
        reader()


def test_bindings_without_their_library_are_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the real ``amdsmi`` 7 does on a machine without ROCm: it prints, then raises ``KeyError``."""
    (tmp_path / "amdsmi.py").write_text('print("Unable to find libamd_smi.so")\n{}["libamd_smi.so"]\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    with pytest.raises(OSError, match="comes with ROCm"):
        AmdReader()
    assert capfd.readouterr().out == ""


def test_readings_become_metrics(use: Use) -> None:
    use("pynvml", nvml([H100]))
    use("amdsmi", amdsmi([MI300]))
    monitor = ResourceMonitor(ResourceConfig())
    monitor.read()
    snapshot = take([monitor])
    assert snapshot["samples"]["deepseek_gpu"] == [[["0", "NVIDIA", "H100"], 1], [["1", "AMD", "MI300X"], 1]]
    assert snapshot["samples"]["deepseek_gpu_utilization_ratio"] == [[["0"], 0.87], [["1"], 0.42]]
    assert total(snapshot, "deepseek_process_threads")[0] >= 1
    assert [gpu["name"] for gpu in monitor.to_dict()["gpus"]] == ["H100", "MI300X"]
    monitor.close()


def test_a_gpu_that_is_lost_does_not_end_the_rest(use: Use, caplog: pytest.LogCaptureFixture) -> None:
    gpu = dict(H100)
    use("pynvml", nvml([gpu]))
    use("amdsmi", amdsmi([MI300]))
    monitor = ResourceMonitor(ResourceConfig())
    gpu["percent"] = "NVMLError_GpuIsLost"
    monitor.read()
    monitor.read()
    assert [reading.name for reading in monitor.gpus] == ["MI300X"]
    assert caplog.text.count("not watched any more") == 1
    assert monitor.machine is not None
    monitor.close()


def test_gpus_are_left_alone_when_not_wanted(use: Use) -> None:
    module = use("pynvml", nvml([H100]))
    monitor = ResourceMonitor(ResourceConfig(gpus=False))
    monitor.read()
    assert monitor.gpus == []
    assert module.calls == []
    monitor.close()


def test_a_blocked_loop_lags() -> None:
    async def block() -> tuple[float, float, int]:
        monitor = ResourceMonitor(ResourceConfig(gpus=False, lag_interval_seconds=0.01))
        monitor.lag.start()
        await asyncio.sleep(0.05)
        time.sleep(0.3)  # the fault that is measured
        await asyncio.sleep(0.02)
        worst, after = monitor.lag.worst(), monitor.lag.worst()
        _, counts = total(take([monitor]), "deepseek_event_loop_lag_seconds")
        monitor.close()
        return worst, after, sum(counts or [])

    worst, after, count = asyncio.run(block())
    assert worst > 0.2
    assert after == 0
    assert count >= 2

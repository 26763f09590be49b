"""The disk under the whole server fills up: keys, usage, answers that wait for labels and the log are on it.

Clients are served meanwhile; what cannot be done says why; and when there is room again, nothing that was acknowledged
is missing. A disk is full by the kernel's limit on the size of files (everywhere on Linux), and really, where the tests
may mount a small one.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest
from fault_server import Process, server_process
from locked_server import Client, Operator, access, eventually

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prlimit")

CLIENTS = 4


class Disk(Protocol):
    folder: Path

    def fill(self, process: Process) -> None: ...

    def free(self, process: Process) -> None: ...


class LimitedDisk:
    """No file of the process can grow: a write fails with EFBIG (Python ignores SIGXFSZ)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, process: Process) -> None:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, hard))

    def free(self, process: Process) -> None:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))


class SmallDisk:
    """A file system of four megabytes, filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, process: Process) -> None:
        with self._filler.open("wb", buffering=0) as file:
            for size in (1 << 16, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass

    def free(self, process: Process) -> None:
        self._filler.unlink()


@pytest.fixture(params=["limited", "small"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "limited":
        yield LimitedDisk(tmp_path)
        return
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("a file system cannot be mounted here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def settings(folder: Path) -> dict[str, Any]:
    quality = {"interval_seconds": 0.2, "keep_answers": 5, "spill_folder": str(folder / "answers")}
    logs = {"format": "json", "level": "info"}
    monitoring = {"step_seconds": 0.2, "quality": quality, "logs": logs}
    rest = {"header_timeout_seconds": 30.0}  # clients may pause
    return {"access": access(folder), "monitoring": monitoring, "model_control": True, "rest": rest}


def test_a_full_disk_costs_no_request_no_count_and_no_label(disk: Disk) -> None:
    log = disk.folder / "log"
    asked: list[str] = []
    with server_process(log, **settings(disk.folder)) as process, Operator(process) as operator:
        key = operator.key()
        with Client(process, key) as client:

            def ask(count: int) -> None:
                for _ in range(count):
                    asked.append(f"r{len(asked)}")
                    answer = client.rest(asked[-1])
                    assert answer.status_code == 200, answer.text
                    assert client.grpc() == "OK"

            ask(20)
            eventually(lambda: operator.usage() == client.acknowledged)
            disk.fill(process)
            ask(50)
            others = served_in_parallel(process, key)
            refused = operator.ask_for_key()
            assert refused.status_code == 503
            assert any(why in refused.json()["error"] for why in ("disk I/O error", "disk is full")), refused.text
            assert operator.revoke(key).status_code == 503
            assert client.rest().status_code == 200, "a revocation that was refused did not happen"
            time.sleep(1.0)  # several exchanges with the store, and several steps of the monitoring
            ask(50)
            assert client.labels(asked[:40])["joined"] == 40
            assert client.labels(asked[:40])["joined"] == 0, "each is taken once"
            assert client.http.get("/metrics").status_code == 200
            assert client.http.post("/v2/repository/index").status_code == 200
            disk.free(process)
            ask(10)
            eventually(lambda: operator.usage() == client.acknowledged + others)
            time.sleep(0.5)
            rest = client.labels(asked[40:])
            assert rest["joined"] == len(asked) - 40, rest
            with Client(process, operator.key()) as another:
                assert another.rest().status_code == 200
            acknowledged = client.acknowledged + others + 1
        assert process.end() == 0
    assert "works again" in log.read_text()
    assert "can be kept in" in log.read_text()
    with server_process(log, **settings(disk.folder)) as process, Operator(process) as operator:
        assert operator.usage() == acknowledged


def served_in_parallel(process: Process, key: str) -> int:
    """Many clients at once for a second; how many requests were answered, which is all of them."""
    ended = threading.Event()

    def go_on() -> int:
        with Client(process, key) as client:
            while not ended.is_set():
                assert client.rest().status_code == 200
                assert client.grpc() == "OK"
            return client.acknowledged

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(go_on) for _ in range(CLIENTS)]
        time.sleep(1.0)
        ended.set()
        return sum(each.result() for each in clients)


def test_a_server_that_ends_while_its_disk_is_full_says_what_is_lost(tmp_path: Path) -> None:
    disk = LimitedDisk(tmp_path)
    log = tmp_path / "pipe"
    os.mkfifo(log)  # no disk is needed for it
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(log.open()), daemon=True)
    reader.start()
    with server_process(log, **settings(disk.folder)) as process:
        with Operator(process) as operator, Client(process, operator.key()) as client:
            assert client.rest("early").status_code == 200
            eventually(lambda: operator.usage() == 1)
            disk.fill(process)
            for number in range(20):
                assert client.rest(f"r{number}").status_code == 200
        assert process.end() == 0
    reader.join(30)
    errors = [json.loads(line)["message"] for line in lines if '"level": "error"' in line]
    assert sum("counts that waited for it are lost" in error for error in errors) == 1, errors
    assert sum("answers that labels may still come for are lost" in error for error in errors) == 1, errors


def test_a_server_whose_disk_is_full_starts_with_the_keys_that_it_has(tmp_path: Path) -> None:
    with server_process(**settings(tmp_path)) as process, Operator(process) as operator:
        key = operator.key()
        revoked = operator.key()
        assert operator.revoke(revoked).status_code == 200
    with (
        server_process(most_file_bytes=1, **settings(tmp_path)) as process,
        Operator(process) as operator,
        Client(process, key) as client,
        Client(process, revoked) as other,
    ):
        assert client.rest().status_code == 200
        assert other.rest().status_code == 401
        assert operator.ask_for_key().status_code == 503
        LimitedDisk(tmp_path).free(process)
        eventually(lambda: operator.usage() == 1)
        assert operator.ask_for_key().status_code == 201
        assert operator.revoke(key).status_code == 200
        assert client.rest().status_code == 401


def test_a_log_that_takes_nothing_stops_nothing() -> None:
    with server_process(Path("/dev/full"), monitoring={"logs": {"level": "info"}}) as process:
        with Client(process, "no key is needed") as client:
            for _ in range(200):
                assert client.rest().status_code == 200
            lost = "deepseek_log_records_suppressed_total "
            told = next(line for line in client.http.get("/metrics").text.splitlines() if line.startswith(lost))
            assert float(told.removeprefix(lost)) >= 200
        assert process.alive

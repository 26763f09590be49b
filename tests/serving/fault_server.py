"""A server in a process of its own, so that its memory, its disk, its clock and its end can be watched and changed.

``python fault_server.py SETTINGS`` takes what differs from the usual configuration as JSON, prints its addresses as
JSON when it is ready, and ends with its standard input. A line there sets how far its wall clock is from the real one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SETTINGS: dict[str, Any] = {
    "rest": {"header_timeout_seconds": 1.0, "body_timeout_seconds": 1.0, "max_form_parts": 20},
    "workers": {"beat_seconds": 0.05, "restart_delay_seconds": 0.05, "stop_seconds": 3.0},
}


class Process:
    """The running server as a test sees it."""

    def __init__(self, process: subprocess.Popen[str], addresses: Mapping[str, str]) -> None:
        self.url = addresses["http"]
        self.grpc = addresses["grpc"]
        self.admin = addresses["admin"]
        split = urlsplit(self.url)
        assert split.hostname is not None
        assert split.port is not None
        self.address = (split.hostname, split.port)
        host, _, port = self.grpc.rpartition(":")
        self.grpc_address = (host, int(port))
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def memory(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def peak(self, *, reset: bool = False) -> int:
        """Most resident memory, in bytes, since the start or the last reset."""
        if reset:
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def set_clock(self, seconds: float) -> None:
        """Put the wall clock so many seconds before (below zero) or after the real one; returns when it is there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "set\n"

    def end(self) -> int:
        """Let it drain and end, and return its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(60)


@contextmanager
def server_process(log: Path | None = None, most_file_bytes: int = -1, **settings: Any) -> Iterator[Process]:
    """Start the server with these settings, and end it after the test.

    ``log`` is where its standard error goes, ``most_file_bytes`` how large it may make a file from the start.
    """
    here = Path(__file__).resolve()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent), *sys.path])}
    command = [sys.executable, str(here), json.dumps({**SETTINGS, **settings})]
    error = None if log is None else log.open("a")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=error, text=True, env=environment
    )
    if most_file_bytes >= 0:
        limit = resource.RLIMIT_FSIZE
        resource.prlimit(process.pid, limit, (most_file_bytes, resource.prlimit(process.pid, limit)[1]))
    if error is not None:
        error.close()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "the server did not start"
        yield Process(process, json.loads(line))
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def main(settings: dict[str, Any]) -> None:
    """Serve until the standard input ends."""
    import signal

    real, shift = time.time, 0.0
    time.time = lambda: real() + shift  # before others take it for their own

    from faulty_models import FaultySource, faulty
    from serving_fakes import CONFIG, FakeArrays, FakeClassifier
    from upload_fakes import FakeImages

    from deepseek.serving import Server, ServingConfig

    def obey() -> None:
        nonlocal shift
        for line in sys.stdin:
            shift = float(line)
            say("set")
        os.kill(os.getpid(), signal.SIGTERM)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def announce(server: Server) -> None:
        say(json.dumps({"http": server.http_url, "grpc": server.grpc_address, "admin": server.admin_url or ""}))
        threading.Thread(target=obey, daemon=True).start()

    usual = CONFIG.model_dump(mode="json", exclude_unset=True)
    config = ServingConfig.model_validate({**usual, "admin_port": 0, **settings})
    if config.workers.workers:
        server = Server(config, sources=[FaultySource()], load=["faulty"])
    else:
        server = Server(config, [FakeClassifier(), FakeArrays(), FakeImages(), faulty()])
    server.run(on_ready=announce)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

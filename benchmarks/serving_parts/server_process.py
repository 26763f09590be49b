"""A server in a session of its own: started, waited for, its memory and time read, ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks.harness import CORES, ROOT, THREADS, StepFailed

START_LIMIT_S = 120.0
STOP_LIMIT_S = 20.0
PARENT, SESSION, USER, SYSTEM, STARTED, RESIDENT = 1, 3, 11, 12, 19, 21
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a server answers, and what its clients send along."""

    http_port: int
    grpc_port: int
    tls: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def http_url(self) -> str:
        """``http://127.0.0.1:PORT``, or https."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        """The same for gRPC."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.grpc_port}"


class ServerProcess:
    """A command that serves until it gets SIGTERM; use as a context manager."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], folder: Path) -> None:
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        limits = dict.fromkeys(THREADS, str(CORES))
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **limits, **env},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self.name = " ".join(command)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_for(self, ask: Callable[[], T]) -> T:
        """What ``ask`` returns as soon as it no longer raises ``OSError``, which means "not yet".

        Raises:
            StepFailed: it ended by itself, or did not answer within two minutes.
        """
        deadline = time.monotonic() + START_LIMIT_S
        while self._process.poll() is None:
            try:
                return ask()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise StepFailed(f"{self.name} is not ready, {error}: {self.last_words()}") from error
                time.sleep(0.1)
        raise StepFailed(f"{self.name} ended with {self._process.returncode}: {self.last_words()}")

    def resident_mb(self) -> float:
        """Resident memory of all its processes, in MB (10^6 bytes); shared pages count once a process."""
        return sum(int(fields[RESIDENT]) for fields in self._processes().values()) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_seconds(self) -> float:
        """Processor time that its processes have used so far, in the kernel too."""
        ticks = sum(int(fields[USER]) + int(fields[SYSTEM]) for fields in self._processes().values())
        return ticks / os.sysconf("SC_CLK_TCK")

    def last_words(self) -> str:
        """The end of what it printed."""
        self._log.seek(0)
        return self._log.read()[-2000:]

    def close(self) -> int:
        """End it and all that it started; the exit status."""
        members = self._processes()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=STOP_LIMIT_S)
        for number, fields in (members | self._processes()).items():  # also what its end has left behind
            with contextlib.suppress(OSError):
                if _fields(number)[STARTED] == fields[STARTED]:  # not another that has got the number since
                    os.kill(number, signal.SIGKILL)
        status = self._process.wait()
        self._log.close()
        return status

    def _processes(self) -> dict[int, list[str]]:
        """Fields of ``/proc/PID/stat`` of its session's processes and of all that descend from one of them."""
        known: dict[int, list[str]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):
                    known[int(folder.name)] = _fields(int(folder.name))
        found = {number for number, fields in known.items() if int(fields[SESSION]) == self._process.pid}
        while more := {n for n, fields in known.items() if int(fields[PARENT]) in found} - found:
            found |= more
        return {number: known[number] for number in found}


def _fields(number: int) -> list[str]:
    """What ``/proc/PID/stat`` says of a process after its name (proc(5)); raises ``OSError`` when there is none."""
    return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that are free now, all different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def import_path(*, ours: bool) -> dict[str, str]:
    """Environment by which a server finds the benchmarks, and ours the package too."""
    paths = [str(ROOT / "src")] * ours + [str(ROOT)]
    given = [os.environ["PYTHONPATH"]] if ours and os.environ.get("PYTHONPATH") else []
    return {"PYTHONPATH": os.pathsep.join([*paths, *given])}

"""A server in a process of its own, so that its memory and its end can be watched: ``python fault_server.py FOLDER``.

Prints its REST address when it is ready, and ends with its standard input. With a folder it serves features from it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SETTINGS = {"header_timeout_seconds": 1.0, "body_timeout_seconds": 1.0, "max_form_parts": 20}


class Process:
    """The running server as a test sees it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.url = url
        split = urlsplit(url)
        assert split.hostname is not None
        assert split.port is not None
        self.address = (split.hostname, split.port)
        self._process = process

    def memory(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


@contextmanager
def server_process() -> Iterator[Process]:
    """Start the server, and end it after the test."""
    here = Path(__file__).resolve()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, str(here)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, "the server did not start"
        yield Process(process, url)
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def main() -> None:
    """Serve until the standard input ends."""
    import signal

    from serving_fakes import CONFIG, FakeArrays, FakeClassifier
    from upload_fakes import FakeImages

    from deepseek.serving import Server
    from deepseek.serving.rest.limits import RestLimits

    def end_with_input() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    def announce(server: Any) -> None:
        sys.stdout.write(server.http_url + "\n")
        sys.stdout.flush()
        threading.Thread(target=end_with_input, daemon=True).start()

    config = CONFIG.model_copy(update={"rest": RestLimits(**SETTINGS)})
    Server(config, [FakeClassifier(), FakeArrays(), FakeImages()]).run(on_ready=announce)


if __name__ == "__main__":
    main()

"""A real Redis server on a free loopback port, for as long as it is needed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Start ``redis-server`` without persistence; yields its port.

    Raises:
        RuntimeError: there is no ``redis-server`` on the path, or it does not answer within ten seconds.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("the benchmark needs redis-server on the path (Debian: apt-get install redis-server)")
    folder.mkdir(parents=True)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen([program, *options], stdout=log, stderr=log)
    try:
        _wait(port)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait(port: int) -> None:
    for _ in range(100):
        with closing(socket.socket()) as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                client.sendall(b"PING\r\n")
                if client.recv(16).startswith(b"+PONG"):
                    return
        time.sleep(0.1)
    raise RuntimeError(f"redis-server does not answer on port {port}")

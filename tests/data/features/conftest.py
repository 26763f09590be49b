"""A real Redis server for the tests of online stores."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time

import pytest

from deepseek.data.features.online import open_online_store
from deepseek.errors import OnlineStoreError


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed; CI must test against a real one (Debian: redis-server)")
        pytest.skip("redis-server is not installed (Debian: apt install redis-server)")
    folder = tmp_path_factory.mktemp("redis")
    socket = folder / "redis.sock"
    if len(str(socket)) > 100:  # a socket's path is limited to 107 bytes
        socket = tmp_path_factory.getbasetemp().parent / "r.sock"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        address = f"unix://{socket}"
        for _ in range(100):
            with contextlib.suppress(OnlineStoreError):
                open_online_store(address).close()
                break
            time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait(10)

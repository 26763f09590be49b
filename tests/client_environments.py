"""Official clients in environments of their own: they want other versions of shared libraries than the server.

An environment is made at first use, below the cache folder, with pinned versions; its name has their hash, so that other
pins make another one. A client's script runs in it as a process and prints JSON, which :meth:`ClientEnvironment.run`
returns. That talks to a server in the test's own process, over loopback.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepseek.artifacts import cache_dir

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class ClientEnvironment:
    """A virtual environment with a client; ``pins`` name it and all that it needs, each with its version."""

    name: str
    pins: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where it is, made or not."""
        versions = "\n".join([f"{sys.version_info[0]}.{sys.version_info[1]}", *self.pins])
        return cache_dir() / "clients" / f"{self.name}-{hashlib.sha256(versions.encode()).hexdigest()[:12]}"

    @property
    def python(self) -> Path:
        """Its interpreter, once :meth:`make` has made it."""
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    def make(self) -> Path:
        """Make the environment unless it is there; returns its interpreter. Test processes wait for each other."""
        done = self.folder / ".installed"
        if done.exists():
            return self.python
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(self.folder.with_suffix(".lock")):
            if not done.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                venv.create(self.folder, with_pip=True)
                pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-deps"]
                installed = subprocess.run([*pip, *self.pins], capture_output=True, text=True, timeout=240)
                assert installed.returncode == 0, f"the client {self.name} cannot be installed: {installed.stderr}"
                done.touch()
        return self.python

    def run(self, script: str | Path, *arguments: str, timeout: float = 120) -> Any:
        """Run a script and return the JSON that it printed; its failure is the test's, with what it wrote."""
        environment = {name: value for name, value in os.environ.items() if name not in PROXIES}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [str(self.make()), str(script), *arguments],
            capture_output=True, text=True, timeout=timeout, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


OPENAI = ClientEnvironment(
    "openai",
    (
        "openai==3.57.0", "annotated-types==0.8.0", "anyio==4.16.0", "h11==0.16.0", "httpcore2==2.16.2",
        "httpx2==2.16.2", "idna==3.20", "jiter==0.19.0", "pydantic==2.14.4", "pydantic_core==2.50.5",
        "sniffio==1.3.1", "truststore==0.10.5", "typing-inspection==0.4.5", "typing_extensions==4.16.0",
    ),
)  # fmt: skip
"""The official client of OpenAI's API."""

TRITON = ClientEnvironment(
    "triton",
    (
        "tritonclient==2.73.0", "aiohappyeyeballs==2.7.1", "aiohttp==3.14.5", "aiosignal==1.4.0", "attrs==26.1.0",
        "brotli==1.2.1", "certifi==2026.10.19.post1", "frozenlist==1.8.0", "gevent==26.9.0",
        "geventhttpclient==2.6.1", "greenlet==3.3.2", "grpcio==1.85.3", "idna==3.20", "ml_dtypes==0.5.4",
        "multidict==7.2.1", "numpy==2.4.6", "packaging==26.4", "propcache==0.5.4", "protobuf==6.33.6",
        "python-rapidjson==1.25", "typing_extensions==4.16.0", "urllib3==2.8.0", "yarl==1.25.1", "zope.event==6.2",
        "zope.interface==8.7",
    ),
)  # fmt: skip
"""Triton's client for HTTP and gRPC, with all that it needs."""

KSERVE = ClientEnvironment(
    "kserve",
    (
        "kserve==0.21.0", "annotated-doc==0.0.7", "annotated-types==0.8.0", "anyio==4.16.0",
        "certifi==2026.10.19.post1", "charset-normalizer==3.5.3", "click==8.5.1", "cloudevents==1.13.0",
        "deprecation==2.1.0", "durationpy==0.11", "fastapi==0.165.0", "grpc-interceptor==0.15.4", "grpcio==1.85.3",
        "h11==0.16.0", "httpcore==1.0.9", "httpx==0.28.1", "idna==3.20", "kubernetes==37.0.1", "numpy==2.4.6",
        "oauthlib==4.0.1", "opentelemetry-api==1.45.2", "orjson==3.13.0", "packaging==26.4", "pandas==2.3.3",
        "prometheus_client==0.26.0", "protobuf==6.33.6", "psutil==5.9.8", "pydantic==2.14.4", "pydantic_core==2.50.5",
        "python-dateutil==2.9.0.post0", "pytz==2026.6", "PyYAML==6.0.4", "requests-oauthlib==2.0.0", "requests==2.34.2",
        "six==1.17.0", "starlette==1.10.0", "tabulate==0.10.0", "timing-asgi==0.3.2", "typing-inspection==0.4.5",
        "typing_extensions==4.16.0", "urllib3==2.8.0", "uvicorn==0.54.0", "watchfiles==1.3.0",
        "websocket-client==1.9.2",
    ),
)  # fmt: skip
"""KServe's client for HTTP and gRPC, with what its import needs: the package is a model server and an SDK for
Kubernetes as well, and imports both; what only they run on is left out."""

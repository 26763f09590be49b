"""Schemathesis in an environment of its own, below the cache folder: it wants other versions than the server has.

Made at first use with pinned versions; its name has their hash, so that other pins make another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from deepseek.artifacts import cache_dir

PINS = (
    "schemathesis==4.32.5", "anyio==4.16.0", "certifi==2026.10.18", "charset-normalizer==3.5.2", "click==8.5.1",
    "graphql-core==3.3.2", "harfile==0.6.0", "hypothesis==6.170.15", "hypothesis-graphql==0.13.5", "idna==3.20",
    "iniconfig==2.3.1", "jsonschema_rs==0.60.3", "markdown-it-py==4.3.0", "MarkupSafe==3.0.4", "mdurl==0.1.2",
    "packaging==26.4", "pluggy==1.7.0", "Pygments==2.21.0", "pyrate-limiter==4.5.1", "pytest==9.2.0", "PyYAML==6.0.4",
    "requests==2.34.2", "rich==15.0.0", "sortedcontainers==2.4.0", "typing_extensions==4.16.0", "urllib3==2.8.0",
    "Werkzeug==3.1.9",
)  # fmt: skip
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def _make() -> Path:
    versions = "\n".join([f"{sys.version_info[0]}.{sys.version_info[1]}", *PINS])
    folder = cache_dir() / "clients" / f"schemathesis-{hashlib.sha256(versions.encode()).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder / ".installed"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes wait for each other
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
            installed = subprocess.run([*pip, "--no-deps", *PINS], capture_output=True, text=True, timeout=240)
            assert installed.returncode == 0, f"schemathesis cannot be installed: {installed.stderr}"
            done.touch()
    return folder


def schemathesis(*arguments: str, folder: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run ``schemathesis ...`` in ``folder``, where it leaves its files."""
    environment = {name: value for name, value in os.environ.items() if name not in (*PROXIES, "PYTHONPATH")}
    command = [str(_make() / "bin" / "schemathesis"), "--no-color", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds)

"""Models that come and go leave a process that still hears signals: Ctrl-C, SIGTERM, the end of a child."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from deepseek.inference import RUNTIMES

SCRIPT = """
import gc, os, signal, subprocess, sys, time
from deepseek.inference import Predictor

heard = []
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
    signal.signal(number, lambda number, frame: heard.append(signal.Signals(number).name))

def load():
    return Predictor.load({bundle!r}, runtime={runtime!r}, dtype={dtype!r})

first, second = load(), load()
first.predict([{{"text": "fine"}}])
second.predict([{{"text": "fine"}}])
del first
gc.collect()
third = load()
del second
gc.collect()
third.predict([{{"text": "fine"}}])
del third
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGINT)
subprocess.run([sys.executable, "-c", ""], check=True)
print(*sorted(set(heard)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("runtime", [name for name in RUNTIMES.names() if name != "torch-compile"])
def test_signals_are_heard_after_models_went(runtime: str, bundle: Any, request: pytest.FixtureRequest) -> None:
    if not RUNTIMES.get(runtime).available().works:
        pytest.skip(f"{runtime} is not here")
    path, dtype = (request.getfixturevalue("copied"), "int8") if runtime == "native" else (bundle.path, "float32")
    script = SCRIPT.format(bundle=str(path), runtime=runtime, dtype=dtype)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["SIGCHLD", "SIGINT", "SIGTERM"]

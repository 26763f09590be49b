"""HTTP/1.1 load by wrk, on one thread: it sends a connection's next request as soon as it has the answer.

wrk corrects latencies for coordinated omission. It counts answers with a status from 400 on, and what was not answered;
that the others are right is seen in the warm-up, where each is compared with the one that was checked, and by their
mean size in the run that counts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import StepFailed
from benchmarks.serving_parts.context import CONNECTIONS
from benchmarks.serving_parts.load import Load
from benchmarks.serving_parts.server_process import Endpoint

SCRIPT = Path(__file__).with_name("wrk.lua")
EXTRA_S = 60.0
DEBIAN = "wrk"


def load(
    endpoint: Endpoint,
    path: str,
    bodies: Sequence[bytes],
    headers: Mapping[str, str],
    *,
    seconds: float,
    folder: Path,
    connections: int = CONNECTIONS,
    expected: bytes | None = None,
) -> Load:
    """Post ``bodies`` in turn for some seconds; with ``expected``, an answer that is another counts as an error."""
    program = installed("wrk", DEBIAN)
    settings = _settings(folder, path, bodies, {**headers, **endpoint.headers}, expected)
    options = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", "10s", "--latency"]
    command = [program, *options, "-s", str(SCRIPT), endpoint.http_url, "--", str(settings)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + EXTRA_S, check=False)
    found = next((line[6:] for line in run.stdout.splitlines() if line.startswith("FOUND ")), None)
    if found is None:
        raise StepFailed(f"wrk found nothing: {run.stdout[-500:]}{run.stderr[-500:]}")
    return parsed(found)


def parsed(found: str) -> Load:
    """What the script printed."""
    values = json.loads(found)
    # An answer that differs may have a bad status too, so the two are not added.
    bad = max(values["wrong"], values["refused"])
    right = max(0, values["requests"] - bad)
    return Load(
        requests=right,
        errors=bad + values["unanswered"],
        seconds=values["microseconds"] / 1e6,
        p50_ms=values["p50"] / 1e3,
        p99_ms=values["p99"] / 1e3,
        bytes_each=values["bytes"] / values["requests"] if values["requests"] else 0.0,
    )


def installed(program: str, package: str) -> str:
    """The path of a load generator.

    Raises:
        StepFailed: it is not installed; the text says which package has it.
    """
    found = shutil.which(program)
    if found is None:
        raise StepFailed(f"the benchmark needs {program} on the path (Debian: apt-get install {package})")
    return found


def _settings(
    folder: Path, path: str, bodies: Sequence[bytes], headers: Mapping[str, str], expected: bytes | None
) -> Path:
    """The script's settings as a Lua file, beside files with the bodies."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"body-{at}" for at in range(len(bodies))]
    for name, body in zip(names, bodies, strict=True):
        name.write_bytes(body)
    lines = [f"path = {_text(path)}", f"bodies = {{{', '.join(_text(str(name)) for name in names)}}}"]
    lines.append("headers = {" + ", ".join(f"[{_text(k)}] = {_text(v)}" for k, v in headers.items()) + "}")
    if expected is not None:
        (folder / "expected").write_bytes(expected)
        lines.append(f"expected = {_text(str(folder / 'expected'))}")
    settings = folder / "settings.lua"
    settings.write_text("return {\n" + "".join(f"  {line},\n" for line in lines) + "}\n", encoding="utf-8")
    return settings


def _text(value: str) -> str:
    """A Lua string; JSON's escapes of quotes and backslashes are Lua's too, and nothing else is escaped here."""
    return json.dumps(value, ensure_ascii=False)

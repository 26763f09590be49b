"""gRPC load by h2load: unary calls over HTTP/2, one stream a connection, on one thread.

h2load sends the next request as soon as it has the answer, but knows nothing of gRPC: a failed call has the status 200
as well, with its code in a trailer. Such a call has no message, so the bytes of the answers tell: they must add up to
as many messages of the checked size as there were calls. What is short of that counts as failed.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness import StepFailed
from benchmarks.serving_parts.contest_requests import framed
from benchmarks.serving_parts.context import CONNECTIONS
from benchmarks.serving_parts.load import Load
from benchmarks.serving_parts.server_process import Endpoint
from benchmarks.serving_parts.wrk import installed

DEBIAN = "nghttp2-client"
GRPC_HEADERS = {"content-type": "application/grpc", "te": "trailers", "user-agent": "grpc-bench/1"}
EXTRA_S = 60.0


def load(
    endpoint: Endpoint,
    path: str,
    message: bytes,
    answer_bytes: int,
    *,
    seconds: float,
    connections: int = CONNECTIONS,
    latencies: bool = True,
) -> Load:
    """Call a unary method with ``message`` for some seconds; each right answer is a message of ``answer_bytes``.

    ``latencies``: keep each call's, which takes 30 bytes of a file for each.
    """
    program = installed("h2load", DEBIAN)
    with tempfile.TemporaryDirectory(prefix="bench-h2load-") as own:
        body, log = Path(own) / "body", Path(own) / "log"
        body.write_bytes(framed(message))
        command = [program, "-t", "1", "-c", str(connections), "-m", "1", "-D", str(max(1, round(seconds)))]
        command += ["-d", str(body), *(["--log-file", str(log)] if latencies else [])]
        command += [part for name, value in _headers(endpoint).items() for part in ("-H", f"{name}: {value}")]
        command.append(f"{endpoint.grpc_url}{path}")
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + EXTRA_S, check=False)
        if run.returncode:
            raise StepFailed(f"h2load failed: {run.stdout[-500:]}{run.stderr[-500:]}")
        return parsed(run.stdout, log.read_text(encoding="ascii") if latencies else "", answer_bytes)


def _headers(endpoint: Endpoint) -> Mapping[str, str]:
    return {**GRPC_HEADERS, **endpoint.headers}


def parsed(printed: str, log: str, answer_bytes: int) -> Load:
    """What h2load printed and logged."""
    seconds = _number(r"finished in ([\d.]+)(us|ms|s)\b", printed)
    done, failed = _number(r"(\d+) succeeded", printed), _number(r"(\d+) failed", printed)
    received = _number(r"\((\d+)\) data", printed)
    right = min(done, received / (answer_bytes + 5))
    micros = sorted(int(line.split("\t")[2]) for line in log.splitlines())
    cuts = statistics.quantiles(micros, n=100) if len(micros) > 1 else [0.0] * 99
    return Load(
        requests=int(right),
        errors=int(failed + done - int(right)),
        seconds=seconds,
        p50_ms=cuts[49] / 1e3,
        p99_ms=cuts[98] / 1e3,
        bytes_each=received / done if done else 0.0,
    )


def _number(pattern: str, text: str) -> float:
    """A count, or seconds when the pattern has a unit too."""
    found = re.search(pattern, text)
    if found is None:
        raise StepFailed(f"h2load did not print what was expected ({pattern}): {text[-800:]}")
    unit = found[2] if found.re.groups > 1 else "s"
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]

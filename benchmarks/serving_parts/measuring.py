"""A server, and loads on it: a call by hand, a warm-up in which every answer is compared, the load that counts."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks import peers
from benchmarks.harness import ROOT, StepFailed
from benchmarks.serving_parts import contest_requests as requests
from benchmarks.serving_parts import h2load, wrk
from benchmarks.serving_parts.contestants import (
    BOTH,
    GRPC_STREAM,
    GRPC_UNARY,
    REST_BINARY,
    REST_JSON,
    Contestant,
    Launch,
    Setting,
)
from benchmarks.serving_parts.context import CONNECTIONS, Context
from benchmarks.serving_parts.first_answers import grpc_answer, rest_answer, stream_answer
from benchmarks.serving_parts.load import Load, together
from benchmarks.serving_parts.server_process import Endpoint, ServerProcess, free_ports

SIZE_TOLERANCE = 0.01
"""By how much a load's answers may differ in mean size from the warm-up's, where each was compared; and by how much our
server may have counted fewer inferences than the generator."""
EXTRA_S = 60.0
T = TypeVar("T")


class Run(Protocol):
    """A load that is ready to run; ``compare``: every answer with the one that was checked."""

    def __call__(self, *, seconds: float, connections: int, compare: bool) -> Load: ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server that runs, as a load sees it."""

    contestant: Contestant
    setting: Setting
    model: str
    server: ServerProcess
    endpoint: Endpoint
    folder: Path

    @property
    def certificate(self) -> Path | None:
        """What a client of a TLS server trusts."""
        given = self.setting.get("tls")
        return Path(given["certificate"]) if given else None

    def statistics(self, name: str) -> dict[str, int]:
        """``inference_count`` and ``execution_count`` of a model of our server."""
        url = f"{self.endpoint.http_url}/v2/models/{name}/stats"
        context = ssl.create_default_context(cafile=self.certificate) if self.endpoint.tls else None
        asked = urllib.request.Request(url, headers=self.endpoint.headers)
        with urllib.request.urlopen(asked, timeout=10, context=context) as answer:
            found: dict[str, int] = json.load(answer)["model_stats"][0]
        return found


@contextlib.contextmanager
def started(contestant: Contestant, setting: Setting, model: str, folder: Path) -> Iterator[Target]:
    """Start a server; ours is ready when this yields, a peer may still be loading."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ready").unlink(missing_ok=True)
    python = Path(sys.executable)
    if contestant.pins:
        python = peers.environment(contestant.name.lower(), contestant.pins)
    http_port, grpc_port, spare_port = free_ports(3)
    launch = Launch(
        python=python, model=model, folder=folder, http_port=http_port, grpc_port=grpc_port, spare_port=spare_port,
        setting=setting,
    )  # fmt: skip
    command, env = contestant.command(launch)
    with ServerProcess(command, env=env, folder=ROOT) as server:
        endpoint = Endpoint(http_port=http_port, grpc_port=grpc_port, tls="tls" in setting)
        if contestant.announces:
            ready = server.wait_for(lambda: (folder / "ready").read_text(encoding="utf-8"))
            endpoint.headers.update(json.loads(ready)["headers"])
        yield Target(
            contestant=contestant, setting=setting, model=model, server=server, endpoint=endpoint, folder=folder
        )


def measure(context: Context, target: Target, kind: str, *, seconds: float | None = None) -> Load:
    """Load a server in one way, REST and gRPC together with half of the connections each for :data:`BOTH`.

    Raises:
        StepFailed: answers are wrong, too many fail, or ours has not counted what the generators did.
    """
    what = f"{target.contestant.name}, {kind}"
    runs = [prepared(target, each) for each in ((REST_JSON, GRPC_UNARY) if kind == BOTH else (kind,))]
    share = CONNECTIONS // len(runs)
    warm = _at_once([_bound(run, context.warm_up, share, True) for run in runs])
    for load in warm:
        load.require_sound(f"{what}, warm-up")
    before, cpu = _counted(target), target.server.cpu_seconds()
    found = _at_once([_bound(run, seconds or context.seconds, share, False) for run in runs])
    cpu = target.server.cpu_seconds() - cpu
    for load, compared in zip(found, warm, strict=True):
        load.require_sound(what)
        if abs(load.bytes_each - compared.bytes_each) > SIZE_TOLERANCE * compared.bytes_each:
            raise StepFailed(f"{what}: answers of {load.bytes_each:.1f} bytes, expected {compared.bytes_each:.1f}")
    answered = sum(load.requests for load in found)
    if target.contestant.announces and answered * (1 - SIZE_TOLERANCE) > _counted(target) - before:
        raise StepFailed(f"{what}: {answered} answers, but the server has counted {_counted(target) - before}")
    return replace(found[0] if len(found) == 1 else together(found), cpu_us=1e6 * cpu / answered)


def prepared(target: Target, kind: str) -> Run:
    """Wait for a right answer of one kind, and return the load that compares with it.

    Raises:
        StepFailed: there is none within two minutes, or a wrong one.
    """
    if kind == GRPC_UNARY:
        return _unary(target)
    if kind == GRPC_STREAM:
        return _stream(target)
    assert kind in (REST_JSON, REST_BINARY)
    request = requests.oip_binary(target.model) if kind == REST_BINARY else None
    return _rest(target, request or target.contestant.rest(target.model, target.setting))


def _rest(target: Target, request: requests.Request) -> Run:
    right = target.server.wait_for(lambda: rest_answer(target.endpoint, request, target.contestant.name))

    def run(*, seconds: float, connections: int, compare: bool) -> Load:
        return wrk.load(
            target.endpoint, request.path, [request.body], request.headers, seconds=seconds, connections=connections,
            folder=target.folder / "wrk", expected=right if compare else None,
        )  # fmt: skip

    return run


def _unary(target: Target) -> Run:
    request = requests.oip_grpc(target.model)
    who, certificate = target.contestant.name, target.certificate
    right = target.server.wait_for(lambda: grpc_answer(target.endpoint, request, who, certificate))

    def run(*, seconds: float, connections: int, compare: bool) -> Load:
        return h2load.load(
            target.endpoint, request.path, request.body, len(right), seconds=seconds, connections=connections
        )

    return run


def _stream(target: Target) -> Run:
    request = requests.oip_grpc(target.model)
    right = target.server.wait_for(lambda: stream_answer(target.endpoint, request, target.contestant.name))
    given = {
        "port": target.endpoint.grpc_port, "path": requests.STREAM, "message": requests.framed(request.body).hex(),
        "expected": requests.framed(right).hex(), "headers": {**h2load.GRPC_HEADERS, **target.endpoint.headers},
    }  # fmt: skip

    def run(*, seconds: float, connections: int, compare: bool) -> Load:
        text = json.dumps({**given, "seconds": seconds, "connections": connections, "warm_up": 0.2})
        command = [sys.executable, "-m", "benchmarks.serving_parts.stream_load", text]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + EXTRA_S, check=False)
        if done.returncode:
            raise StepFailed(f"the streams' load failed: {done.stderr[-1500:]}")
        return Load(**json.loads(done.stdout))

    return run


def _counted(target: Target) -> int:
    return target.statistics(target.model)["inference_count"] if target.contestant.announces else 0


def _bound(run: Run, seconds: float, connections: int, compare: bool) -> Callable[[], Load]:
    return lambda: run(seconds=seconds, connections=connections, compare=compare)


def _at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of calls that run at the same time, each of them in a thread that waits for a process."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]

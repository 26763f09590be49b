"""Who takes part: how a server is started, which loads it answers, and the settings among which its best is looked for.

Ours is started in one way, with everything on. A peer's settings are those that its documentation tells people to turn
for production: worker processes, batch size and time, where the endpoint computes. Each is tried once for a few seconds
and the fastest is taken to the contest; all of them are told in the notes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.serving_parts import contest_requests as requests
from benchmarks.serving_parts.contest_requests import Request
from benchmarks.serving_parts.models import VARIABLE
from benchmarks.serving_parts.server_process import import_path

REST_JSON, REST_BINARY, GRPC_UNARY, GRPC_STREAM, BOTH = "REST JSON", "REST binary", "gRPC unary", "gRPC stream", "both"
HERE = "benchmarks.serving_parts"
Setting = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a server's command is made from."""

    python: Path
    model: str
    folder: Path
    http_port: int
    grpc_port: int
    spare_port: int
    setting: Setting


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One server.

    Attributes:
        pins: requirements of its environment; none: ours.
        command: the command line, and variables of its environment.
        rest: the request over HTTP for a model, where it takes any.
        loads: what it is loaded with.
        settings: by a name in words, those that are tried.
        announces: whether it says in ``folder/ready`` what clients have to send.
    """

    name: str
    command: Callable[[Launch], tuple[Sequence[str], Mapping[str, str]]]
    loads: tuple[str, ...]
    settings: Mapping[str, Setting]
    rest: Callable[[str, Setting], Request] = field(default=lambda model, setting: requests.oip_json(model))
    pins: tuple[str, ...] = ()
    announces: bool = False

    @property
    def version(self) -> str:
        """Of the peer's main library."""
        return peers.versions(self.pins[0]).popitem()[1] if self.pins else ""


def _module(launch: Launch, module: str, given: Mapping[str, Any]) -> list[str]:
    return [str(launch.python), "-m", f"{HERE}.{module}", json.dumps(given)]


def _ours(launch: Launch) -> tuple[Sequence[str], Mapping[str, str]]:
    given = {
        "model": launch.model, "http_port": launch.http_port, "grpc_port": launch.grpc_port,
        "announce": str(launch.folder / "ready"), **launch.setting,
    }  # fmt: skip
    return _module(launch, "our_server", given), import_path(ours=True)


def ours(name: str, *, loads: tuple[str, ...], **setting: Any) -> Contestant:
    """Our server with everything on, and what ``setting`` adds (see ``our_server.main``)."""
    return Contestant(name=name, command=_ours, loads=loads, settings={"": setting}, announces=True)


def _environment(launch: Launch, **variables: str) -> Mapping[str, str]:
    return {**import_path(ours=False), VARIABLE: launch.model, **variables}


def _fastapi(launch: Launch) -> tuple[Sequence[str], Mapping[str, str]]:
    options = ["--port", str(launch.http_port), "--workers", str(launch.setting["workers"])]
    options += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [str(launch.python), "-m", "uvicorn", f"{HERE}.peer_fastapi_server:app", *options]
    return command, _environment(launch)


def _litserve(launch: Launch) -> tuple[Sequence[str], Mapping[str, str]]:
    given = {"port": launch.http_port, **launch.setting}
    return _module(launch, "peer_litserve_server", given), _environment(launch)


def _bentoml(launch: Launch) -> tuple[Sequence[str], Mapping[str, str]]:
    options = ["--host", "127.0.0.1", "--port", str(launch.http_port)]
    command = [str(launch.python), "-m", "bentoml", "serve", f"{HERE}.peer_bentoml_service:Contest", *options]
    home = {"BENTOML_HOME": str(launch.folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    return command, _environment(launch, BENCH_WORKERS=str(launch.setting["workers"]), **home)


def _mlserver(launch: Launch) -> tuple[Sequence[str], Mapping[str, str]]:
    setting = dict(launch.setting)
    server = {
        "host": "127.0.0.1", "http_port": launch.http_port, "grpc_port": launch.grpc_port,
        "metrics_port": launch.spare_port, "parallel_workers": setting.pop("parallel_workers"), "debug": False,
    }  # fmt: skip
    model = {"name": launch.model, "implementation": f"{HERE}.peer_mlserver_model.Contest", **setting}
    (launch.folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    (launch.folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    return [str(launch.python.parent / "mlserver"), "start", str(launch.folder)], _environment(launch)


def _grpc_aio(launch: Launch) -> tuple[Sequence[str], Mapping[str, str]]:
    return _module(launch, "peer_grpc_aio_server", {"port": launch.grpc_port, **launch.setting}), _environment(launch)


FASTAPI = Contestant(
    name="FastAPI",
    pins=peers.FASTAPI,
    command=_fastapi,
    loads=(REST_JSON,),
    rest=lambda model, setting: requests.plain_json(model, setting["path"]),
    settings={
        "1 worker, async endpoint": {"workers": 1, "path": "/predict"},
        "2 workers, async endpoint": {"workers": 2, "path": "/predict"},
        "1 worker, endpoint in a thread": {"workers": 1, "path": "/predict-in-thread"},
    },
)


def _lit(size: int, timeout: float, *, api_servers: int = 1, fast_queue: bool = True) -> Setting:
    batching = {"max_batch_size": size, "batch_timeout": timeout}
    return {**batching, "api_servers": api_servers, "fast_queue": fast_queue}


LITSERVE = Contestant(
    name="LitServe",
    pins=peers.LITSERVE,
    command=_litserve,
    loads=(REST_JSON,),
    rest=lambda model, setting: requests.plain_json(model, "/predict"),
    settings={
        "no batching": _lit(1, 0.0, fast_queue=False),
        "no batching, fast queue": _lit(1, 0.0),
        "batches of 32 within 2 ms, fast queue": _lit(32, 0.002),
        "batches of 64 within 10 ms, fast queue": _lit(64, 0.01),
        "batches of 32 within 2 ms, fast queue, 2 API servers": _lit(32, 0.002, api_servers=2),
    },
)
BENTOML = Contestant(
    name="BentoML",
    pins=peers.BENTOML,
    command=_bentoml,
    loads=(REST_JSON,),
    rest=lambda model, setting: requests.plain_json(model, setting["path"], rows=setting["rows"]),
    settings={
        "1 worker": {"workers": 1, "path": "/predict", "rows": False},
        "1 worker, batchable": {"workers": 1, "path": "/predict_batch", "rows": True},
        "2 workers, batchable": {"workers": 2, "path": "/predict_batch", "rows": True},
    },
)
MLSERVER = Contestant(
    name="MLServer",
    pins=peers.MLSERVER,
    command=_mlserver,
    loads=(REST_JSON, GRPC_UNARY),
    settings={
        "no parallel workers": {"parallel_workers": 0},
        "no parallel workers, batches of 32 within 2 ms": {
            "parallel_workers": 0, "max_batch_size": 32, "max_batch_time": 0.002,
        },
        "1 parallel worker (the default)": {"parallel_workers": 1},
    },
)  # fmt: skip
GRPC_AIO = Contestant(
    name="grpc.aio",
    pins=peers.GRPC_AIO,
    command=_grpc_aio,
    loads=(GRPC_UNARY, GRPC_STREAM),
    settings={"asyncio": {"loop": "asyncio"}, "uvloop": {"loop": "uvloop"}},
)
PEERS = (FASTAPI, LITSERVE, BENTOML, MLSERVER, GRPC_AIO)

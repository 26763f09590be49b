"""Run a function in several processes: torch's elastic launcher on this machine, or Ray Train on a cluster.

The driver writes a job (JSON: the function's name and a JSON payload, never a pickle), starts the workers, shows their
progress and reads the result that the main worker wrote. Workers run ``sys.executable`` anew, so a caller needs no
``if __name__ == "__main__"``, and notebooks work.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepseek import progress
from deepseek.artifacts.cache import write_text
from deepseek.errors import EngineError
from deepseek.training.distributed import start
from deepseek.training.distributed.config import DistributedConfig
from deepseek.training.distributed.failures import failure
from deepseek.training.distributed.global_steps import PROGRESS

ADVICE = "Checkpoints are kept: run again with resume to go on from the newest."


def run_workers(
    config: DistributedConfig,
    target: str,
    payload: Mapping[str, Any],
    *,
    folder: str | os.PathLike[str],
    logs: str | os.PathLike[str],
    advice: str = ADVICE,
) -> Any:
    """Call ``target`` in ``config.workers`` processes that can reach each other; return what it returned in the first.

    Args:
        target: ``"module:function"``; called as ``function(payload, resume=...)`` in each worker, with ``RANK``,
            ``WORLD_SIZE`` and ``MASTER_ADDR`` in the environment; ``resume`` is true after a restart.
        payload: JSON values; paths for anything large.
        folder: for the job, its result and the workers' errors; on a cluster, on storage that all nodes share.
        logs: for the workers' output, ``worker-RANK.log`` each (Ray keeps the output of its own workers).

    Raises:
        EngineError: the workers could not be started, or one died; the message has its last words. No worker is
            left running. An error of this package that a worker raised is raised as it is.
        KeyboardInterrupt: Ctrl-C; all workers have ended.
        MissingExtraError: ``launcher: ray`` without Ray.
    """
    home, log_folder = Path(folder).resolve(), Path(logs).resolve()
    home.mkdir(parents=True, exist_ok=True)
    log_folder.mkdir(parents=True, exist_ok=True)
    for stale in [home / "result.json", home / "progress.json", *home.glob("error-*.json")]:
        stale.unlink(missing_ok=True)
    job = {
        "target": target,
        "payload": dict(payload),
        "folder": str(home),
        "logs": str(log_folder),
        "workers": config.workers,
        "launcher": config.launcher,
        "parent": os.getpid(),
        "search_path": [str(Path(p).resolve()) for p in sys.path],
    }
    write_text(home / "job.json", json.dumps(job))
    with _shown(home / "progress.json"):
        if config.launcher == "ray":
            from deepseek.training.distributed.ray_launch import run_on_ray

            killed = run_on_ray(config, job)
        else:
            killed = _run_here(config, home / "job.json")
    result = home / "result.json"
    if killed is not None or not result.is_file():
        raise failure(home, log_folder, killed or {}, advice)
    return json.loads(result.read_text(encoding="utf-8"))


def _run_here(config: DistributedConfig, job: Path) -> dict[int, str] | None:
    """Run local workers to their end; ``None`` when all went well, else those that were killed."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=config.workers,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=config.restarts,
        monitor_interval=0.2,
        logs_specs=DefaultLogsSpecs(log_dir=str(job.parent / "elastic")),
        shutdown_timeout=10,
    )
    with _own_signals(), _environment(_loopback() | {PROGRESS: str(job.parent / "progress.json")}):
        try:
            elastic_launch(launch, sys.executable)(start.__file__, str(job))
        except ChildFailedError as error:
            return {
                rank: signal.Signals(-found.exitcode).name
                for rank, found in error.failures.items()
                if found.exitcode < 0 and -found.exitcode != signal.SIGTERM  # SIGTERM: ended because another failed
            }
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + error.sigval) from None
        except (OSError, RuntimeError, TimeoutError) as error:
            raise EngineError(f"the workers could not be started on this machine: {error}") from error
    return None


def _loopback() -> dict[str, str]:
    """Keep gloo on the loopback interface: host names in containers often resolve to nothing that can be reached."""
    if "GLOO_SOCKET_IFNAME" in os.environ or not hasattr(socket, "if_nameindex"):
        return {}
    return dict([("GLOO_SOCKET_IFNAME", name) for _, name in socket.if_nameindex() if name in {"lo", "lo0"}][:1])


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put this process's signal handlers back: the elastic launcher sets its own and leaves them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    before = {n: signal.getsignal(getattr(signal, n)) for n in names if hasattr(signal, n)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in [*values, "TORCHELASTIC_SIGNALS_TO_HANDLE"]}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _shown(path: Path) -> Iterator[None]:
    """A bar that follows the main worker's progress file."""
    done = threading.Event()

    def follow(bar: progress.Bar) -> None:
        while not done.wait(0.5):
            if path.is_file():
                now = json.loads(path.read_text(encoding="utf-8"))
                bar.set(now["done"], total=now["total"], note=now["note"])

    with progress.bar("train", None, "steps") as bar:
        thread = threading.Thread(target=follow, args=(bar,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

"""Workers on a Ray cluster, by Ray Train.

Every node needs this package, what the model needs, and the run folder at the same path (shared storage). After a
worker or node died Ray Train starts all workers again, ``restarts`` times, and they go on from the newest checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from deepseek.artifacts.cache import write_text
from deepseek.errors import EngineError, require
from deepseek.training.distributed.config import DistributedConfig
from deepseek.training.distributed.global_steps import PROGRESS


def run_on_ray(config: DistributedConfig, job: dict[str, Any]) -> dict[int, str] | None:
    """Run the job's workers to their end; ``None`` when all went well, else an empty dict (see the error files)."""
    ray = require("ray", "ray")
    require("ray.train", "ray")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    own = not ray.is_initialized()
    if own:
        connect(config.address, cores=config.workers)
    gpu = ray.cluster_resources().get("GPU", 0) >= config.workers
    try:
        trainer = TorchTrainer(
            _worker,
            train_loop_config=job,
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=round(config.timeout)),
            scaling_config=ScalingConfig(num_workers=config.workers, use_gpu=gpu),
            run_config=RunConfig(
                name="workers",
                storage_path=str(Path(job["folder"], "ray")),
                failure_config=FailureConfig(max_failures=config.restarts),
            ),
        )
        try:
            trainer.fit()
        except KeyboardInterrupt:
            raise
        except Exception as error:  # Ray raises what it likes; the workers' own errors are in their files
            if not list(Path(job["folder"]).glob("error-*.json")):
                raise EngineError(f"Ray could not run the workers: {error}") from error
            return {}
        return None
    finally:
        if own:
            ray.shutdown()


def connect(address: str | None, *, cores: float) -> None:
    """Join the cluster at ``address``, else the one that RAY_ADDRESS names, else start Ray on this machine.

    Started here, it has at least ``cores`` (virtual) cores, or it would wait for them for ever.

    Raises:
        EngineError: no cluster answers there, or Ray did not start.
    """
    import ray

    place = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {}
    before = os.environ.get("PYTHONPATH")
    if place == "local":
        options = {"include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, math.ceil(cores))}
        os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(p).resolve()) for p in sys.path)  # the workers' search path
    try:
        ray.init(address=place, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
        raise EngineError(
            f"no Ray cluster answers at {place!r}: {error}. Check RAY_ADDRESS, or start one: ray start --head"
            if place != "local"
            else f"Ray did not start on this machine: {error}"
        ) from error
    finally:
        if before is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = before


def _worker(job: dict[str, Any]) -> None:
    """One of Ray Train's workers; the processes are connected already."""
    from deepseek import progress
    from deepseek.training.distributed import ranks
    from deepseek.training.distributed.worker import work

    progress.silence()
    os.environ[PROGRESS] = str(Path(job["folder"], "progress.json"))
    attempts = Path(job["folder"], "attempts.json")
    count = ranks.agreed(json.loads(attempts.read_text()) if ranks.is_main() and attempts.is_file() else 0)
    if ranks.is_main():
        write_text(attempts, json.dumps(count + 1))
    work(job, again=count > 0)

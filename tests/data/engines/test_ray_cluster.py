"""Ray: several nodes, nodes that come and go during a job, workers that die, no processes left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deepseek.data.engines import get_engine
from deepseek.errors import EngineError

ray = pytest.importorskip("ray")
NODE = {"num_cpus": 2, "object_store_memory": 100 << 20}


def _node(number: int) -> tuple[int, str]:
    time.sleep(0.15)
    return number * number, ray.get_runtime_context().get_node_id()


def _die_once(item: tuple[int, str]) -> tuple[int, str]:
    number, folder = item
    marker = Path(folder, str(number))
    if number % 5 == 1 and not marker.exists():
        marker.touch()
        os._exit(1)  # as if the machine had lost power: no exception, no clean-up
    return number * number, ray.get_runtime_context().get_node_id()


def _die(number: int) -> int:
    os._exit(1)


def _big(number: int) -> np.ndarray:
    """A result too large to be sent inline: it lives on the node that made it and is lost with it."""
    time.sleep(0.15)
    return np.full(200_000, number)


def _module(number: int) -> str:
    import deepseek

    return deepseek.__file__


def test_workers_use_this_package(ray_cluster):
    import deepseek

    assert list(get_engine("ray").map(_module, [1])) == [deepseek.__file__]


def test_a_job_survives_nodes_that_come_and_go(ray_cluster):
    second, third = ray_cluster.add_node(**NODE), None
    values, nodes = [], set()

    def items():
        """Enough pieces for the third node to take part, however busy this machine is."""
        for number in range(2000):
            if len(nodes) == 3:
                return
            yield number

    try:
        for value, node in get_engine("ray").map(_node, items()):
            values.append(value)
            nodes.add(node)
            if len(nodes) == 2 and third is None:
                third = ray_cluster.add_node(**NODE)
                ray_cluster.remove_node(second, allow_graceful=False)
        assert values == [n * n for n in range(len(values))]
        assert len(nodes) == 3
    finally:
        ray_cluster.remove_node(third or second)


def test_results_lost_with_their_node_are_computed_again(ray_cluster):
    second = ray_cluster.add_node(**NODE)
    results = get_engine("ray").map(_big, range(12))
    first = [int(next(results)[0]) for _ in range(2)]
    ray_cluster.remove_node(second, allow_graceful=False)
    assert first + [int(result[0]) for result in results] == list(range(12))


def test_a_killed_workers_piece_runs_again(ray_cluster, tmp_path):
    items = [(n, str(tmp_path)) for n in range(10)]
    assert [value for value, _ in get_engine("ray").map(_die_once, items)] == [n * n for n in range(10)]
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [1, 6]


def test_a_piece_that_always_kills_its_worker_is_reported(ray_cluster):
    from deepseek.data.engines.ray_engine import RayEngine

    with pytest.raises(EngineError, match="could not run a piece"):
        list(RayEngine(retries=1).map(_die, [1]))


def test_closing_an_engine_leaves_a_cluster_that_it_joined(ray_cluster):
    get_engine("ray").close()
    assert ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_no_cluster_at_the_address(address):
    script = f"from deepseek.data.engines.ray_engine import RayEngine\nRayEngine({address!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert f"no Ray cluster answers at '{address}'" in done.stderr


@pytest.mark.parametrize("end", ["engine.close()", "os.kill(os.getpid(), 9)"])
def test_no_processes_stay_behind(end, tmp_path):
    script = (
        "import os, ray\nfrom deepseek.data.engines.ray_engine import RayEngine\n"
        "engine = RayEngine('local')\nassert list(engine.map(abs, [-1, 2])) == [1, 2]\n"
        f"print(ray._private.worker._global_node.get_session_dir_path(), flush=True)\n{end}\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=100)
    session = done.stdout.strip()
    assert session, done.stderr
    assert _wait_until_gone(session), f"processes of {session} are left"


def _wait_until_gone(session: str, seconds: float = 40) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(session.encode() in _command(folder) for folder in Path("/proc").glob("[0-9]*")):
            return True
        time.sleep(0.5)
    return False


def _command(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""

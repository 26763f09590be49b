"""What the data layer's tests share: a small Ray cluster and an S3 server, each started on its first use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RAY_NODE = {"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """A ``ray.cluster_utils.Cluster`` with one node of two (virtual) cores that this process is connected to.

    ``get_engine("ray")`` then runs on it. Workers can import what the tests can, test modules included. A test that
    adds nodes must remove them. Starting takes 5 to 10 s on two cores, and only if a test asks for it. It ends with the
    module: Ray ends a process whose cluster is lost, on a machine that stood still for a while for instance, and that
    must not be the process of the tests that come after.
    """
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.setenv("PYTHONPATH", os.pathsep.join(path or str(Path.cwd()) for path in sys.path))
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_enable_metrics_collection"):
        patch.setenv(name, "0")
    # on a busy machine an answer takes longer than by default, after which Ray ends the whole process or a node
    patch.setenv("RAY_gcs_rpc_server_connect_timeout_s", "60")
    patch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "300")
    patch.setenv("RAY_health_check_timeout_ms", "60000")
    cluster = None
    try:
        cluster = Cluster(initialize_head=True, head_node_args=RAY_NODE)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        patch.setenv("RAY_ADDRESS", cluster.address)  # also for what tests run as a subprocess
        yield cluster
    finally:
        ray.shutdown()
        if cluster is not None:
            cluster.shutdown()
        patch.undo()


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The address of an S3 server (moto) on loopback; tests make buckets of their own names there."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()

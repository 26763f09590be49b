"""The measured side of the scaling benchmark: each step on a number of cores, or on a Ray cluster on this machine."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import Clock, serve

CHUNK = 1 << 18
SEED = 7
state: dict[str, Any] = {"engine": "local"}


class Work:
    """Times a piece of work: seconds by ``clock``, and the seconds that this process' cores were busy with it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.cpu = 0.0

    def __enter__(self) -> Work:
        self._clock.__enter__()
        self.cpu -= time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.cpu += time.process_time()
        self._clock.__exit__(*error)


def restrict(clock: Clock, *, cores: int, nodes: int) -> None:
    """Use only so many cores, before any library starts its threads; with ``nodes``, Ray nodes of one core each."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    if nodes:
        import ray
        from ray.cluster_utils import Cluster

        from deepseek.data.engines import get_engine

        node = {"num_cpus": 1, "object_store_memory": 256 << 20}
        with clock:
            cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
            for _ in range(nodes - 1):
                cluster.add_node(**node)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            state["engine"] = get_engine("ray")
            list(state["engine"].map(_warm, range(2 * nodes)))
        state["cluster"] = cluster  # kept, or the cluster would end here
    else:
        from deepseek.data.engines import LocalEngine

        state["engine"] = LocalEngine(cores)


def _warm(_: int) -> None:
    """Import in a worker what the steps need, so that they measure the work."""
    import deepseek.data.features
    import deepseek.data.profiles
    import deepseek.data.table  # noqa: F401


def make_table(clock: Clock, *, path: str, rows: int) -> int:
    """A table of 3 columns, some 64 bytes a row; returns its bytes on disk."""
    import pyarrow as pa

    from deepseek.data import Table

    def batches() -> Iterator[pa.RecordBatch]:
        rng = np.random.default_rng([SEED, rows])
        words = np.array([f"word{n}" for n in range(2000)])
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            picked = pa.array(words).take(pa.array(rng.integers(0, 2000, count * 6)))
            texts = pa.ListArray.from_arrays(pa.array(np.arange(0, 6 * count + 1, 6, dtype=np.int32)), picked)
            yield pa.record_batch(
                {
                    "value": rng.normal(size=count),
                    "label": pa.array([f"label {n}" for n in range(20)]).take(pa.array(rng.integers(0, 20, count))),
                    "text": pa.compute.binary_join(texts, " "),
                }
            )

    with clock:
        Table.create(path, batches())
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def make_csv(clock: Clock, *, table: str, path: str) -> int:
    """The table as CSV; returns its bytes."""
    import pyarrow as pa
    import pyarrow.csv

    from deepseek.data import Table

    opened = Table.open(table)
    with pa.csv.CSVWriter(path, opened.schema.remove_metadata()) as writer:
        for batch in opened.batches(batch_size=CHUNK):
            writer.write_batch(batch)
    return Path(path).stat().st_size


def make_requests(clock: Clock, *, folder: str, rows: int) -> None:
    """A feature table of so many rows and requests for a tenth of them (see ``data_parts/generate.py``)."""
    import datetime as dt

    from benchmarks.data_parts import generate
    from deepseek.data import ingest
    from deepseek.data.features import FeatureStore, FeatureView

    home = Path(folder)
    features, _ = generate.driver_stats(home, rows, rows // 10, min(100_000, rows // 10), SEED)
    ingest(features, home / "features")
    features.unlink()
    FeatureStore(home / "store").register(
        FeatureView(
            name="drivers",
            source=home / "features",
            entities=("driver_id",),
            event_time="event_timestamp",
            created_time="created",
            ttl=dt.timedelta(days=7),
        )
    )


def ingestion(clock: Clock, *, path: str) -> dict[str, float]:
    """CSV to a table."""
    from deepseek.data import Table, ingest

    target = f"{path}.ingested"
    with Work(clock) as work:
        ingest(path, target, engine=state["engine"])
    rows = len(Table.open(target))
    shutil.rmtree(target)
    return {"rows": rows, "cpu": work.cpu}


def profile(clock: Clock, *, path: str) -> dict[str, float]:
    """Read and summarise every column."""
    from deepseek.data import Table
    from deepseek.data import profile as profile_table

    with Work(clock) as work:
        found = profile_table(Table.open(path), engine=state["engine"])
    return {"rows": found["rows"], "cpu": work.cpu}


def point_in_time(clock: Clock, *, path: str) -> dict[str, float]:
    """The join of requests with the features as they were known."""
    import pyarrow.parquet as pq

    from deepseek.data.features import FeatureStore

    requests = pq.read_table(Path(path) / "requests.parquet")
    store = FeatureStore(Path(path) / "store")
    with Work(clock) as work:
        found = store.history(requests, ["drivers"], time="event_timestamp", engine=state["engine"])
    return {"rows": found.num_rows, "cpu": work.cpu}


def cleaning(clock: Clock, *, path: str) -> dict[str, float]:
    """Quality checks, exact and near duplicates of the texts."""
    from deepseek.data import Table, clean_table

    target = f"{path}.cleaned"
    with Work(clock) as work:
        cleaned, _ = clean_table(Table.open(path), target, engine=state["engine"], overwrite=True)
    kept = len(cleaned)
    for leftover in Path(path).parent.glob(f"{Path(target).name}*"):
        shutil.rmtree(leftover)
    return {"rows": kept, "cpu": work.cpu}


if __name__ == "__main__":
    serve(restrict, make_table, make_csv, make_requests, ingestion, profile, point_in_time, cleaning)

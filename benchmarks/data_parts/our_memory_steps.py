"""The operations whose peak memory is measured, each in a process of its own."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.worker import Clock, serve
from deepseek.data import CleaningConfig, Table
from deepseek.data import clean_table as run_cleaner
from deepseek.data import ingest as run_ingest
from deepseek.data import profile as run_profile

VIEW = "driver_stats"


def idle(clock: Clock) -> None:
    """Nothing: what the process holds by itself, libraries included."""


def ingest(clock: Clock, *, source: str, target: str) -> None:
    """Parquet into a table."""
    with clock:
        run_ingest(source, target)


def scan(clock: Clock, *, table: str) -> None:
    """All rows, batch by batch."""
    with clock:
        assert sum(batch.num_rows for batch in Table.open(table).batches()) > 0


def profile(clock: Clock, *, table: str) -> None:
    """Statistics of all columns."""
    with clock:
        run_profile(Table.open(table))


def register(clock: Clock, *, folder: str) -> None:
    """Register the view that the next two steps use, once."""
    from deepseek.data.features import FeatureStore, FeatureView

    store = FeatureStore(Path(folder) / "store")
    if store.views():
        return
    table = Path(folder) / "features"
    store.register(
        FeatureView(
            name=VIEW,
            source=table,
            entities=("driver_id",),
            event_time="event_timestamp",
            created_time="created",
            ttl=dt.timedelta(days=7),
        )
    )


def history(clock: Clock, *, folder: str, requests: str) -> None:
    """The point-in-time join of a fixed number of requests."""
    from deepseek.data.features import FeatureStore

    asked = pq.read_table(requests)
    with clock:
        FeatureStore(Path(folder) / "store").history(asked, [VIEW], time="event_timestamp")


def materialize(clock: Clock, *, folder: str, target: str) -> None:
    """The newest row of a fixed number of keys into an embedded online store."""
    from deepseek.data.features import FeatureStore

    store = FeatureStore(Path(folder) / "store", online=target)
    with clock:
        store.materialize(VIEW, until=dt.datetime(2026, 3, 1, tzinfo=dt.UTC))


def load_texts(clock: Clock, *, folder: str) -> None:
    """Make the table of texts."""
    content = json.loads((Path(folder) / "texts.json").read_text(encoding="utf-8"))
    Table.create(Path(folder) / "texts", pa.table({"text": content}))


def clean(clock: Clock, *, table: str, target: str) -> None:
    """The cleaner with its default steps, near duplicates included."""
    with clock:
        run_cleaner(Table.open(table), target, CleaningConfig(), label=None)


if __name__ == "__main__":
    serve(idle, ingest, scan, profile, register, history, materialize, load_texts, clean)

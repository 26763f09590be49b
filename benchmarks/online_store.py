"""Which embedded online store: LMDB, which the package uses, against SQLite, which Python brings along.

Both keep the same records (a million rows of ten mixed features, keys in random order) under the same rule (the
greater record of a key wins). SQLite is set up as its documentation advises for this: WAL, ``synchronous=NORMAL``, a
``WITHOUT ROWID`` table, one upsert statement with a condition, one ``IN`` query for several keys, a prepared statement
each time. Reads alternate in blocks, so that a slow minute of the machine hits both alike. Also measured: the same
reads while another thread of the process computes in Python, as threads of a server do, and while two more processes
read and one writes; ways to encode a row; and reads from end to end, ``FeatureStore.online``, embedded and on Redis.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import multiprocessing
import random
import shutil
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import Figure, say, write_results
from benchmarks.sqlite_store import SQLiteStore
from deepseek import progress
from deepseek.data.features import FeatureStore, FeatureView
from deepseek.data.features.online import OnlineStore, Space, open_online_store
from deepseek.data.features.online.record import header
from deepseek.data.features.online.values import ValueCodec
from deepseek.data.table import Table

SPACE = Space("users", 1)
BATCHES = (1, 10, 100)
CHUNK = 50_000
START = dt.datetime(2026, 1, 1)


def open_store(name: str, folder: Path) -> Any:
    """A contestant, opened."""
    return open_online_store(folder / "lmdb") if name == "LMDB" else SQLiteStore(str(folder / "sqlite.db"))


def size_mb(name: str, folder: Path) -> float:
    """What the store takes on the disk."""
    files = (folder / "lmdb").iterdir() if name == "LMDB" else folder.glob("sqlite.db*")
    return sum(file.stat().st_blocks * 512 for file in files) / 1e6


def feature_rows(start: int, count: int) -> pa.Table:
    """Rows of ten features: four floats, three integers, a text, a boolean, a time; one in ten values is null."""
    draw = random.Random(start)  # noqa: S311  # a benchmark's draw
    numbers = range(start, start + count)

    def some(make: Callable[[int], Any]) -> list[Any]:
        return [None if draw.random() < 0.1 else make(n) for n in numbers]

    times = pa.array([START + dt.timedelta(seconds=n % 86_400) for n in numbers], pa.timestamp("us"))
    columns: dict[str, Any] = {"user": pa.array(numbers, pa.int64()), "event_time": times}
    columns |= {f"amount_{i}": some(lambda n: n * 1.1) for i in range(4)}
    columns |= {f"count_{i}": pa.array(some(lambda n: n % 1000), pa.int64()) for i in range(3)}
    columns |= {"city": some(lambda n: f"city {n % 300}"), "active": some(lambda n: n % 3 == 0), "seen": times}
    return pa.table(columns)


def records(rows: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and records of the rows."""
    from deepseek.data.features.online.keys import KeyCodec

    keys = KeyCodec(["user"], [pa.int64()])
    for start in range(0, rows, CHUNK):
        table = feature_rows(start, min(CHUNK, rows - start))
        features = table.drop_columns(["user", "event_time"])
        values = ValueCodec(features.schema).encode(features)
        heads = (header(1, start + n, -1, 1, n) for n in range(table.num_rows))
        yield from zip(
            keys.from_arrow([table["user"]]), (h + v for h, v in zip(heads, values, strict=True)), strict=True
        )


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile in microseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return cuts[49] * 1e6, cuts[98] * 1e6


def time_reads(read: Callable[[Any], Any], asked: Sequence[Any]) -> list[float]:
    """Seconds of each call."""
    seconds = []
    for keys in asked:
        started = time.perf_counter()
        read(keys)
        seconds.append(time.perf_counter() - started)
    return seconds


def contest(stores: dict[str, Any], keys: list[bytes], reads: int) -> dict[tuple[str, int], tuple[float, float]]:
    """Percentiles of reads, by contestant and number of keys; ten alternating blocks each."""
    draw = random.Random(1)  # noqa: S311  # a benchmark's draw
    seconds: dict[tuple[str, int], list[float]] = {}
    for batch in BATCHES:
        for block in range(10):
            asked = [draw.sample(keys, batch) for _ in range(reads // 10)]
            for name in sorted(stores, reverse=bool(block % 2)):
                time_reads(lambda k, s=stores[name]: s.read(SPACE, k), asked[:20])  # warm
                times = time_reads(lambda k, s=stores[name]: s.read(SPACE, k), asked)
                seconds.setdefault((name, batch), []).extend(times)
    return {entry: percentiles(times) for entry, times in seconds.items()}


@contextlib.contextmanager
def busy_thread() -> Iterator[None]:
    """A thread that computes in Python all the time."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def other_process(name: str, folder: Path, keys: list[bytes], write: bool, stop: Any, done: Any) -> None:
    """Read, or write newer records, until told to stop; reports how many keys a second."""
    store = open_store(name, folder)
    draw = random.Random(write)  # noqa: S311  # a benchmark's draw
    count, started = 0, time.perf_counter()
    while not stop.is_set():
        chosen = draw.sample(keys, 100)
        if write:
            newer = header(2, count, -1, 1, 0) + bytes(60)
            store.write(SPACE, [(key, newer) for key in chosen])
        else:
            store.read(SPACE, chosen)
        count += 100
    done.put((write, count / (time.perf_counter() - started)))


def crowd(folder: Path, keys: list[bytes], reads: int) -> dict[str, tuple[float, float, float]]:
    """Reads of ten keys while two other processes read and one writes: p50, p99, and keys a second of the writer."""
    context = multiprocessing.get_context("spawn")
    results = {}
    for name in ("LMDB", "SQLite"):
        stop, done = context.Event(), context.Queue()
        others = [
            context.Process(target=other_process, args=(name, folder, keys[:100_000], n == 0, stop, done))
            for n in range(3)
        ]
        for other in others:
            other.start()
        store = open_store(name, folder)
        time.sleep(3)  # until they have started
        draw = random.Random(4)  # noqa: S311
        asked = [draw.sample(keys, 10) for _ in range(reads)]
        p50, p99 = percentiles(time_reads(lambda k, s=store: s.read(SPACE, k), asked))
        stop.set()
        rates = dict(done.get(timeout=60) for _ in others)
        for other in others:
            other.join()
        results[name] = (p50, p99, rates[True])
    return results


def encodings() -> dict[str, tuple[float, float, float]]:
    """Microseconds to encode and decode a row of the ten features, and its bytes, in three ways."""
    table = feature_rows(0, 5000).drop_columns(["user", "event_time"])
    codec = ValueCodec(table.schema)
    results = {}

    def measure(name: str, encode: Callable[[], list[bytes]], decode: Callable[[bytes], Any]) -> None:
        started = time.perf_counter()
        payloads = encode()
        middle = time.perf_counter()
        for payload in payloads:
            decode(payload)
        ended = time.perf_counter()
        count = len(payloads)
        size = sum(map(len, payloads)) / count
        results[name] = ((middle - started) / count * 1e6, (ended - middle) / count * 1e6, size)

    def ipc_decode(payload: bytes) -> Any:
        return pa.ipc.read_record_batch(pa.py_buffer(payload), table.schema).to_pylist()[0]

    whole = table.combine_chunks().to_batches()[0]
    layout = struct.Struct("<H4d3q?q16s")  # a bit for each null, text cut to 16 bytes
    stored = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in table.columns]
    plain = [[value or 0 for value in row] for row in zip(*(c.to_pylist() for c in stored), strict=True)]
    measure("msgpack", lambda: codec.encode(table), lambda payload: codec.python(codec.decode(payload)))
    measure("Arrow IPC", lambda: [whole.slice(n, 1).serialize().to_pybytes() for n in range(len(table))], ipc_decode)
    measure(
        "struct, text cut to 16 bytes",
        lambda: [layout.pack(0, *row[:7], bool(row[8]), row[9], str(row[7]).encode()[:16]) for row in plain],
        layout.unpack,
    )
    return results


def end_to_end(folder: Path, rows: int, reads: int) -> dict[tuple[str, str, int], tuple[float, float]]:
    """``FeatureStore.online`` with dicts in and out, for the embedded store and Redis: p50 and p99 in microseconds.

    By the clock, and of the thread's processor time, which other users of the cores do not lengthen.
    """
    chunks = (
        batch for start in range(0, rows, CHUNK) for batch in feature_rows(start, min(CHUNK, rows - start)).to_batches()
    )
    table = Table.create(folder / "users.lance", chunks)
    with redis_server(folder) as address:
        stores = {"embedded": FeatureStore(folder / "a"), "redis": FeatureStore(folder / "b", online=address)}
        view = FeatureView(
            name="users", source=table.path, entities=["user"], event_time="event_time", ttl=dt.timedelta(days=1000)
        )
        for name, store in stores.items():
            store.register(view)
            report = store.materialize("users")
            say(f"  {name}: materialised {report.keys_written:,} keys in {report.seconds:.1f} s")
        draw = random.Random(2)  # noqa: S311
        seconds: dict[tuple[str, str, int], list[float]] = {}
        for batch in BATCHES:
            for block in range(10):
                asked = [[{"user": key} for key in draw.sample(range(rows), batch)] for _ in range(reads // 10)]
                for name in sorted(stores, reverse=bool(block % 2)):
                    online = stores[name].online
                    time_reads(lambda keys, o=online: o("users", keys), asked[:20])  # warm
                    for keys in asked:
                        started, computed = time.perf_counter(), time.thread_time()
                        online("users", keys)
                        seconds.setdefault((name, "cpu", batch), []).append(time.thread_time() - computed)
                        seconds.setdefault((name, "wall", batch), []).append(time.perf_counter() - started)
        return {entry: percentiles(times) for entry, times in seconds.items()}


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A Redis server on a socket, without persistence."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is not installed (Debian: apt install redis-server)")
    socket = folder / "redis.sock"
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(socket), "--save", ""], stdout=subprocess.DEVNULL
    )
    try:
        while not socket.exists():
            time.sleep(0.05)
        yield f"unix://{socket}"
    finally:
        server.terminate()
        server.wait(20)


def main() -> None:
    """Measure, print, and leave the figures in results/online_store.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--reads", type=int, default=5_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="online-") as name, progress.quiet():
        figures = measure_all(Path(name), arguments.rows, arguments.reads)
    print(
        "wrote",
        write_results(
            "online_store",
            figures,
            versions=("lmdb", "redis", "msgspec", "pyarrow"),
            peers={"SQLite": sqlite3.sqlite_version},
        ),
    )


def measure_all(folder: Path, rows: int, reads: int) -> dict[str, Figure]:
    """All figures."""
    figures: dict[str, Figure] = {}
    data = list(records(rows))
    random.Random(0).shuffle(data)  # noqa: S311
    stores: dict[str, OnlineStore | SQLiteStore] = {n: open_store(n, folder) for n in ("LMDB", "SQLite")}
    rates: dict[str, list[float]] = {"LMDB": [], "SQLite": []}
    for _ in ("new", "again"):
        for each, store in stores.items():
            started = time.perf_counter()
            for start in range(0, rows, CHUNK):
                store.write(SPACE, data[start : start + CHUNK])
            rates[each].append(rows / (time.perf_counter() - started))
    for index, (key, what) in enumerate(
        (("write_rows_per_s", "new keys in random order"), ("rewrite_rows_per_s", "the same rows again"))
    ):
        figures[key] = Figure(
            value=rates["LMDB"][index],
            unit="rows/s",
            baseline=rates["SQLite"][index],
            baseline_name="SQLite",
            note=f"bigger is better. {rows:,} rows, {what}",
        )
    sizes = {each: size_mb(each, folder) for each in stores}
    payload = sum(len(k) + len(r) for k, r in data) / 1e6
    figures["size_mb"] = Figure(
        value=sizes["LMDB"],
        unit="MB",
        baseline=sizes["SQLite"],
        baseline_name="SQLite",
        note=f"smaller is better. Keys and records themselves: {payload:.0f} MB",
    )
    keys = [key for key, _ in data]
    del data
    for situation, context in (("", contextlib.nullcontext()), ("_busy", busy_thread())):
        with context:
            found = contest(stores, keys, reads if not situation else reads // 5)
        for batch in BATCHES:
            ours, theirs = found["LMDB", batch], found["SQLite", batch]
            for index, cut in enumerate(("p50", "p99")):
                note = "another thread computes in Python" if situation else "store.read alone"
                figures[f"read_{cut}_us_{batch}{situation}"] = Figure(
                    value=ours[index],
                    unit="µs",
                    baseline=theirs[index],
                    baseline_name="SQLite",
                    note=f"smaller is better. {batch} keys; {note}",
                )
    for each, (p50, p99, rate) in (crowded := crowd(folder, keys, reads)).items():
        say(f"  {each} among processes: p50 {p50:.1f} p99 {p99:.1f} µs, writer {rate:,.0f} keys/s")
    for index, (cut, unit) in enumerate((("p50_us", "µs"), ("p99_us", "µs"), ("writer_keys_per_s", "keys/s"))):
        figures[f"processes_{cut}"] = Figure(
            value=crowded["LMDB"][index],
            unit=unit,
            baseline=crowded["SQLite"][index],
            baseline_name="SQLite",
            note="10 keys, while 2 processes read and 1 writes 100 keys at a time",
        )
    ways = encodings()
    for index, (key, unit) in enumerate((("encode_us", "µs"), ("decode_us", "µs"), ("row_bytes", "bytes"))):
        others = ", ".join(f"{way} {ways[way][index]:.2f}" for way in list(ways)[1:])
        figures[key] = Figure(
            value=ways["msgpack"][index],
            unit=unit,
            baseline=ways["Arrow IPC"][index],
            baseline_name="Arrow IPC per row",
            note=f"smaller is better. Ten features; {others}",
        )
    found_all = end_to_end(folder, rows, reads)
    for each in ("embedded", "redis"):
        for batch in BATCHES:
            computed = found_all[each, "cpu", batch]
            for index, cut in enumerate(("p50", "p99")):
                figures[f"online_{cut}_us_{batch}_{each}"] = Figure(
                    value=found_all[each, "wall", batch][index],
                    unit="µs",
                    note=f"smaller is better. FeatureStore.online, {batch} keys, dicts in and out, 10 features, "
                    f"{rows:,} keys; of which processor time {computed[index]:.1f} µs",
                )
    for key, figure in figures.items():
        say(
            f"  {key}: {figure.value:,.4g} {figure.unit}"
            + (f" (against {figure.baseline:,.4g})" if figure.baseline else "")
        )
    return figures


if __name__ == "__main__":
    main()

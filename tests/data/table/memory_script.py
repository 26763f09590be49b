"""Run in a process of its own: what a table's life takes in memory. Arguments: folder, rows, bytes of a row, blobs."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.data import Table
from deepseek.data.engines import LocalEngine
from deepseek.data.sql import sql


def status(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def batches(rows, width, start=0):
    generator = np.random.default_rng(start)
    step = max(1, (1 << 20) // width)
    for first in range(start, start + rows, step):
        count = min(step, start + rows - first)
        data = np.frombuffer(generator.bytes(width * count), np.uint8)
        offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int64) * width)
        values = pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, [None, offsets, pa.py_buffer(data)])
        yield pa.record_batch([pa.array(range(first, first + count)), values], ["id", "value"])


def first_byte(batch):
    return pa.array([value[0] for value in batch["value"].to_pylist()], pa.int64())


def main(folder, rows, width, blobs):
    path = f"{folder}/t.lance"
    schema = pa.schema([("id", pa.int64()), ("value", pa.large_binary())])
    peaks = {}
    warm = Table.create(f"{folder}/warm.lance", batches(50, width), schema=schema, blobs=["value"] if blobs else [])
    warm.add_columns(first_byte, schema=pa.schema([("first", pa.int64())]), read=["value"])
    sql("SELECT count(*) FROM data", warm)

    def measured(name, action):
        reset_peak()
        before = status("VmRSS")
        result = action()
        peaks[name] = round(status("VmHWM") - before, 1)
        return result

    quarter = rows // 4

    def create():
        table = Table.create(path, batches(quarter, width), schema=schema, blobs=["value"] if blobs else [])
        for part in range(1, 4):
            table.append(batches(quarter, width, part * quarter))
        return table

    table = measured("create", create)
    assert len(table) == 4 * quarter
    assert measured("scan", lambda: sum(batch.num_rows for batch in table.batches())) == len(table)
    new = pa.schema([("first", pa.int64())])
    measured("add_columns", lambda: table.add_columns(first_byte, schema=new, read=["value"], engine=LocalEngine(1)))
    measured("upsert", lambda: table.upsert(batches(quarter, width, quarter // 2), on="id"))
    measured("delete", lambda: table.delete("id % 10 = 0"))
    measured("sql", lambda: sql("SELECT max(octet_length(value)) m FROM data", table, memory_limit="100MB"))
    measured("compact", lambda: table.compact(engine=LocalEngine(1)))
    assert len(table.to_arrow(["id"])) == len(table)
    print(json.dumps({"bytes": table.size(), "rows": len(table), "peaks": peaks}))


if __name__ == "__main__":
    with progress.quiet():
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "blobs")

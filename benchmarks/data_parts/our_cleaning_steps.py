"""Our side of the near-duplicate search, through the cleaning pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.worker import Clock, serve
from deepseek.data import CleaningConfig, Table, clean_table
from deepseek.data.table.rejects import rejects_path

state: dict[str, Any] = {}


def load(clock: Clock, *, texts: str, table: str) -> int:
    """Make a table of the texts."""
    content = json.loads(Path(texts).read_text(encoding="utf-8"))
    state["table"] = Table.create(table, pa.table({"text": content}))
    return len(content)


def near_duplicates(clock: Clock, *, threshold: float, shingle_chars: int, output: str | None) -> int:
    """Clean the table of near duplicates alone; writes the numbers of the rows dropped.

    Reading the table, verifying each pair on its shingles, and writing kept and rejected rows with their reasons all
    count.
    """
    config = CleaningConfig(
        normalise=False,
        exact_duplicates=False,
        conflicting_labels=None,
        leakage=False,
        near_duplicates=threshold,
        shingle_chars=shingle_chars,
        **{name: None for name in ("near_images", "near_vectors") if name in CleaningConfig.model_fields},
    )
    target = f"{state['table'].path}-clean"
    for path in (target, rejects_path(target)):
        shutil.rmtree(path, ignore_errors=True)
    with clock:
        _, report = clean_table(state["table"], target, config, label=None)
    if output:
        rejected = Table.open(rejects_path(target)).to_arrow(["input_row"]).column(0).to_pylist()
        Path(output).write_text(json.dumps(rejected), encoding="utf-8")
    return report.rows_in - report.rows_out


if __name__ == "__main__":
    serve(load, near_duplicates)

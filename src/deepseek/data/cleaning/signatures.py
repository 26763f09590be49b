"""MinHash band codes of all kept texts, in a file: computed once a cleaning, read by near duplicates and by leakage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.shingles import Hashes, Integers
from deepseek.data.cleaning.similarity import band_codes, band_count
from deepseek.data.cleaning.step import RowNumbers, Rows
from deepseek.data.cleaning.text_facts import KEY

_CODES, _NUMBERS = "band_codes", "band_rows"


@dataclass(frozen=True)
class _Task:
    keys: pa.Array
    threshold: float
    length: int
    seed: int


class Signatures:
    """The band codes of the rows that are kept now; ``numbers`` are their input-row numbers, ascending."""

    def __init__(self, rows: Rows, config: CleaningConfig) -> None:
        assert config.near_duplicates is not None
        self.bands = band_count(config.near_duplicates)
        self._rows = rows
        path, known_path = rows.shared / _CODES, rows.shared / f"{_NUMBERS}.npy"
        if not known_path.exists():
            self._compute(rows, config, config.near_duplicates)
        known = np.load(known_path, mmap_mode="r")
        self.numbers: RowNumbers = np.concatenate(
            [*(numbers for numbers, _ in rows.batches([KEY])), np.empty(0, np.int64)]
        )
        self._codes = np.memmap(path, np.uint64, mode="r", shape=(self.bands, len(known))) if len(known) else None
        self._chosen = None if len(known) == len(self.numbers) else np.searchsorted(known, self.numbers)

    def _compute(self, rows: Rows, config: CleaningConfig, threshold: float) -> None:
        numbers: RowNumbers = np.empty(rows.count, np.int64)
        codes = np.memmap(rows.shared / _CODES, np.uint64, mode="w+", shape=(self.bands, max(1, rows.count)))
        done = 0

        def tasks() -> Iterator[_Task]:
            filled = 0
            for of_batch, batch in rows.batches([KEY]):
                numbers[filled : filled + len(of_batch)] = of_batch
                filled += len(of_batch)
                yield _Task(batch.column(0), threshold, config.shingle_chars, config.seed)

        for part in rows.engine.map(_band_codes, tasks()):
            codes[:, done : done + part.shape[1]] = part
            done += part.shape[1]
        codes.flush()
        np.save(rows.shared / f"{_NUMBERS}.npy", numbers)

    def band(self, number: int) -> Hashes:
        """One code a row."""
        assert self._codes is not None
        return np.asarray(self._codes[number]) if self._chosen is None else self._codes[number][self._chosen]

    def keys(self, positions: Integers) -> pa.Array:
        """The text keys of some of the rows."""
        return self._rows.take(self.numbers[positions], [KEY]).column(0)


def _band_codes(task: _Task) -> Hashes:
    return band_codes(task.keys, task.threshold, task.length, task.seed)

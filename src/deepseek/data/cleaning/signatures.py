"""What stands for the kept texts when similar ones are looked for: MinHash band codes, bitmaps and sizes, in files.

Computed once a cleaning, through the engine, and read by near duplicates and by leakage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.shingles import BITMAP_WORDS, Hashes, Integers, bitmaps, shingle_sets
from deepseek.data.cleaning.similarity import band_codes, band_count
from deepseek.data.cleaning.step import RowNumbers, Rows
from deepseek.data.cleaning.text_facts import KEY

_CODES, _CODE_BYTES = "band_codes", 8
_MAPS, _NUMBERS, _SIZES = "bitmaps.npy", "text_rows.npy", "set_sizes.npy"


@dataclass(frozen=True)
class _Task:
    keys: pa.Array
    threshold: float
    length: int
    seed: int


class Signatures:
    """The texts of the rows that are kept now, N of them, by their position among these rows.

    ``numbers`` (N) are their input-row numbers, ascending; ``sizes`` (N) how many different shingles each has, ``maps``
    (N, BITMAP_WORDS) the parity bitmaps of these shingles.
    """

    def __init__(self, rows: Rows, config: CleaningConfig) -> None:
        assert config.near_duplicates is not None
        self.bands = band_count(config.near_duplicates)
        self._rows = rows
        folder = rows.shared
        if not (folder / _NUMBERS).exists():
            self._compute(rows, config, config.near_duplicates)
        known = np.load(folder / _NUMBERS)
        self.numbers: RowNumbers = np.concatenate(
            [*(numbers for numbers, _ in rows.batches([KEY])), np.empty(0, np.int64)]
        )
        self._count = len(known)
        self._codes = folder / _CODES
        self.maps: Hashes = np.load(folder / _MAPS)
        self.sizes: Integers = np.load(folder / _SIZES)
        self._chosen = None
        if self._count != len(self.numbers):
            self._chosen = np.searchsorted(known, self.numbers)
            self.maps, self.sizes = self.maps[self._chosen], self.sizes[self._chosen]

    def _compute(self, rows: Rows, config: CleaningConfig, threshold: float) -> None:
        numbers: RowNumbers = np.empty(rows.count, np.int64)
        sizes: Integers = np.empty(rows.count, np.int64)
        maps: Hashes = np.empty((rows.count, BITMAP_WORDS), np.uint64)
        done = 0

        def tasks() -> Iterator[_Task]:
            filled = 0
            for of_batch, batch in rows.batches([KEY]):
                numbers[filled : filled + len(of_batch)] = of_batch
                filled += len(of_batch)
                yield _Task(batch.column(0), threshold, config.shingle_chars, config.seed)

        with (rows.shared / _CODES).open("wb") as file:
            for of_codes, of_maps, of_sizes in rows.engine.map(_signatures, tasks()):
                part = slice(done, done + len(of_sizes))
                maps[part], sizes[part] = of_maps, of_sizes
                for band, codes in enumerate(of_codes):
                    file.seek((band * rows.count + done) * _CODE_BYTES)
                    file.write(codes.tobytes())
                done = part.stop
        np.save(rows.shared / _MAPS, maps)
        np.save(rows.shared / _SIZES, sizes)
        np.save(rows.shared / _NUMBERS, numbers)

    def band(self, number: int) -> Hashes:
        """One code a text."""
        start = number * self._count * _CODE_BYTES
        codes = np.fromfile(self._codes, np.uint64, self._count, offset=start)
        return codes if self._chosen is None else codes[self._chosen]

    @property
    def scratch(self) -> Path:
        """A folder for files of the step that reads the signatures."""
        return self._rows.scratch

    def keys(self, positions: Integers) -> pa.Array:
        """The text keys of some of the rows."""
        return self._rows.take(self.numbers[positions], [KEY]).column(0)


def _signatures(task: _Task) -> tuple[Hashes, Hashes, Integers]:
    hashes, offsets = shingle_sets(task.keys, task.length)
    codes = band_codes(hashes, offsets, task.threshold, task.seed)
    return codes, bitmaps(hashes, offsets), np.diff(offsets)

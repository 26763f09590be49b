"""Leakage between splits: training rows that repeat a held-out row, whatever their labels.

The training row goes, so the held-out sets stay as they were and results on them stay comparable. Every split that is
not called ``train`` is held out.
"""

from __future__ import annotations

import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.similarity import SimilarityIndex, band_codes
from deepseek.data.cleaning.step import Columns, Rejection, StepResult, keys_of, values_of

TRAIN = "train"
EQUAL = "leakage: equals a held-out row"
SIMILAR = "leakage: nearly equals a held-out row"


def leakage(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Reject training rows whose text key equals a held-out one, or is similar at the near-duplicate threshold."""
    keys, splits = keys_of(table, columns), values_of(table, columns.split)
    held_out: dict[str, int] = {}
    for row, (key, split) in enumerate(zip(keys, splits, strict=True)):
        if split != TRAIN:
            held_out.setdefault(key, row)
    rejections = [
        Rejection(row=row, reason=EQUAL, duplicate_of=held_out[key])
        for row, key in enumerate(keys)
        if splits[row] == TRAIN and key in held_out
    ]
    threshold = config.near_duplicates
    if held_out and threshold is not None:
        equal = {rejection.row for rejection in rejections}
        codes = list(band_codes(keys, threshold, config.shingle_chars, config.seed))
        index = SimilarityIndex(threshold, config.shingle_chars)
        for key, row in held_out.items():
            index.add(row, key, codes[row])
        for row, key in enumerate(keys):
            if splits[row] == TRAIN and row not in equal and (found := index.find(key, codes[row])) is not None:
                rejections.append(Rejection(row=row, reason=SIMILAR, duplicate_of=found))
    rejections.sort(key=lambda rejection: rejection.row)
    return StepResult(table=table, rejections=rejections)

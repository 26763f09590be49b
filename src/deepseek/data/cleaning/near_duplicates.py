"""Near duplicates inside a split: rows whose text is almost that of an earlier row.

A row is compared with the rows kept so far, so of a chain of similar rows the first stays. Only rows with equal labels
repeat one another: "it is good" beside "it is not good" is the contrast that a classifier has to learn.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.similarity import SimilarityIndex, band_codes
from deepseek.data.cleaning.step import Columns, Rejection, StepResult, keys_of, values_of

NEAR = "near duplicate"


def near_duplicates(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Reject rows whose shingles have a Jaccard similarity of at least the threshold to an earlier kept row's."""
    threshold = config.near_duplicates
    assert threshold is not None
    keys, labels, splits = keys_of(table, columns), values_of(table, columns.label), values_of(table, columns.split)
    kept: defaultdict[tuple[Any, Any], SimilarityIndex] = defaultdict(
        lambda: SimilarityIndex(threshold, config.shingle_chars)
    )
    rejections = []
    codes_of_rows = band_codes(keys, threshold, config.shingle_chars, config.seed)
    for row, (key, codes) in enumerate(zip(keys, codes_of_rows, strict=True)):
        index = kept[(splits[row], labels[row])]
        if (earlier := index.find(key, codes)) is not None:
            rejections.append(Rejection(row=row, reason=NEAR, duplicate_of=earlier))
        else:
            index.add(row, key, codes)
    return StepResult(table=table, rejections=rejections)

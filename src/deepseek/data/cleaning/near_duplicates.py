"""Near duplicates inside a split: rows whose text is almost that of an earlier row.

A row is compared with the rows kept so far, so of a chain of similar rows the first stays. Only rows with equal labels
repeat one another: "it is good" beside "it is not good" is the contrast that a classifier has to learn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deepseek.data.cleaning.candidates import Candidates
from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.shingles import mixed
from deepseek.data.cleaning.signatures import Signatures
from deepseek.data.cleaning.step import Columns, Rejection, Rows
from deepseek.data.cleaning.text_facts import LABEL, SPLIT

NEAR = "near duplicate"


def near_duplicates(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Reject rows whose shingles have a Jaccard similarity of at least the threshold to an earlier kept row's."""
    assert config.near_duplicates is not None
    signatures = Signatures(rows, config)
    groups = np.concatenate(
        [
            mixed(batch.column(0).to_numpy() ^ mixed(batch.column(1).to_numpy() + np.uint64(1)))
            for _, batch in rows.batches([LABEL, SPLIT])
        ]
    )
    candidates = Candidates(
        len(groups), signatures.keys, threshold=config.near_duplicates, length=config.shingle_chars, groups=groups
    )
    for band in range(signatures.bands):
        candidates.add_band(signatures.band(band) ^ groups, None)
    owner = candidates.first_similar(None)
    for position in np.flatnonzero(owner >= 0):
        yield Rejection(
            row=int(signatures.numbers[position]),
            reason=NEAR,
            duplicate_of=int(signatures.numbers[owner[position]]),
        )

"""Near duplicates inside a split: rows whose text is almost that of an earlier row.

A row is compared with the rows kept so far, so of a chain of similar rows the first stays. Only rows with equal labels
repeat one another: "it is good" beside "it is not good" is the contrast that a classifier has to learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.shingles import Bools, Hashes, Integers, mixed
from deepseek.data.cleaning.signatures import Signatures
from deepseek.data.cleaning.similarity import jaccard, shingles
from deepseek.data.cleaning.step import Columns, Rejection, RowNumbers, Rows
from deepseek.data.cleaning.text_facts import HELD_OUT, LABEL, SPLIT
from deepseek.data.cleaning.text_similarity import text_candidates

NEAR = "near duplicate"
_MEASURED = 2_000  # pairs; enough for a plot


def near_duplicates(rows: Rows, columns: Columns, config: CleaningConfig) -> Iterator[Rejection]:
    """Reject rows whose shingles have a Jaccard similarity of at least the threshold to an earlier kept row's."""
    signatures = Signatures(rows, config)
    owner = text_candidates(signatures, config, groups=groups_of(rows)).first_similar()
    if (owner >= 0).any():
        rows.details["similarity"] = similarities(signatures, owner, config.shingle_chars)
    yield from repeats(signatures.numbers, owner, NEAR)


def similarities(signatures: Signatures, owner: Integers, length: int) -> dict[str, int]:
    """How similar the rows that have an owner are to it: pairs by similarity in steps of 0.02, of at most 2,000."""
    found = np.flatnonzero(owner >= 0)
    chosen = found[np.linspace(0, len(found) - 1, min(len(found), _MEASURED)).astype(np.int64)]
    pairs = zip(signatures.keys(chosen).to_pylist(), signatures.keys(owner[chosen]).to_pylist(), strict=True)
    groups: Counter[int] = Counter()
    for one, other in pairs:
        groups[int(50 * jaccard(shingles(one, length), shingles(other, length)) + 1e-9)] += 1
    return {f"{group / 50:.2f}": groups[group] for group in range(min(groups), max(groups) + 1)}


def groups_of(rows: Rows) -> Hashes:
    """For each kept row a number for its split and label."""
    parts = [
        mixed(batch.column(0).to_numpy() ^ mixed(batch.column(1).to_numpy() + np.uint64(1)))
        for _, batch in rows.batches([LABEL, SPLIT])
    ]
    return np.concatenate([*parts, np.empty(0, np.uint64)])


def held_out_of(rows: Rows) -> Bools:
    """For each kept row whether it is held out."""
    parts = [batch.column(0).to_numpy(zero_copy_only=False) for _, batch in rows.batches([HELD_OUT])]
    return np.concatenate([*parts, np.empty(0, np.bool_)])


def repeats(numbers: RowNumbers, owner: Integers, reason: str) -> Iterator[Rejection]:
    """Rejections of the rows that have an owner (positions, -1 for none); ``numbers`` are the input-row numbers."""
    for position in np.flatnonzero(owner >= 0):
        yield Rejection(row=int(numbers[position]), reason=reason, duplicate_of=int(numbers[owner[position]]))

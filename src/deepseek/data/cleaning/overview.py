"""What the rows look like as a whole: how long their texts are and how many rows each label has."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.cleaning.step import Columns

LENGTHS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Lower bounds, in characters, of the groups that lengths are counted in; the last is open."""
MAX_LABELS = 10_000


@dataclass(kw_only=True)
class Overview:
    """Rows by length group (its lower bound) and by label; no labels when there are too many to be classes."""

    lengths: Counter[int] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    too_many: bool = False

    def add(self, other: Overview) -> None:
        """Add the counts of other rows."""
        self.lengths.update(other.lengths)
        if not self.too_many:
            self.labels.update(other.labels)
            if len(self.labels) > MAX_LABELS:
                self.too_many = True
                self.labels.clear()

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Plain values: lengths in ascending order, labels with the most frequent first."""
        labels = sorted(self.labels.items(), key=lambda item: (-item[1], item[0]))
        return {"lengths": {str(low): self.lengths[low] for low in sorted(self.lengths)}, "labels": dict(labels)}


def overview(rows: pa.Table | pa.RecordBatch, columns: Columns) -> Overview:
    """The counts of some rows; missing texts and labels, and labels that are not classes (fractions), are left out."""
    found = Overview()
    if columns.text is not None:
        lengths = pc.drop_null(pc.utf8_length(rows.column(columns.text))).to_numpy(zero_copy_only=False)
        groups = np.searchsorted(LENGTHS, np.asarray(lengths), side="right") - 1
        found.lengths.update({LENGTHS[group]: int(count) for group, count in enumerate(np.bincount(groups)) if count})
    if columns.label is not None and not pa.types.is_floating(rows.schema.field(columns.label).type):
        labels = rows.column(columns.label).to_pylist()
        found.labels.update(str(label) for label in labels if label is not None)
    return found

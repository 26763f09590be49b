"""A named real data set as a source."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from deepseek.data.datasets import Dataset
from deepseek.data.sources.base import Located, OnReject, Reject, Source, encode, refuse


class DatasetSource(Source):
    """The rows of a catalogued data set; its licence and origin go into the table's metadata."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.name = dataset.card.name
        self.metadata = dataset.card.metadata()

    def schema(self) -> pa.Schema:
        """The columns that the card promises."""
        return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in self._dataset.card.columns.items()])

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; fetches the data set's file at first use."""

        def located() -> Iterator[Located]:
            for line in self._dataset.read():
                if line.problem:
                    on_reject(Reject(reason=line.problem, source=self.name, line=line.number, raw=line.raw))
                else:
                    yield Located(line=line.number, values=line.values)

        yield from encode(located(), self.schema(), self.name, on_reject)

"""A named real data set as a source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from deepseek.data.datasets import Dataset
from deepseek.data.sources.base import OnReject, Reject, Source, refuse
from deepseek.data.sources.encoding import Located, encode


class DatasetSource(Source):
    """The rows of a catalogued data set; its licence and origin go into the table's metadata."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.name = dataset.card.name
        self.metadata = dataset.card.metadata()

    def schema(self) -> pa.Schema:
        """The columns that the card promises."""
        return pa.schema([(name, _type(kind)) for name, kind in self._dataset.card.columns.items()])

    def identity(self) -> dict[str, Any]:
        """The data set's name and its pinned origin, or the user's own files where it is read from such."""
        files = self._dataset.files() if self._dataset.files is not None else None
        origin = {"origin": self._dataset.card.origin} if files is None else {"files": files}
        return {"kind": "named", "name": self.name, **origin}

    def batches(self, on_reject: OnReject = refuse) -> Iterator[pa.RecordBatch]:
        """The rows; fetches the data set's file at first use."""

        def located() -> Iterator[Located]:
            for line in self._dataset.read():
                if line.problem:
                    on_reject(Reject(reason=line.problem, source=self.name, line=line.number, raw=line.raw))
                else:
                    yield Located(line=line.number, values=line.values)

        yield from encode(located(), self.schema(), self.name, on_reject)


def _type(alias: str) -> pa.DataType:
    if alias.startswith("list<"):
        return pa.list_(_type(alias.removeprefix("list<").removesuffix(">")))
    return pa.type_for_alias(alias)

"""Data sets that a user may have as a folder already, and that the Hugging Face hub has as Parquet files.

A folder named in the data set's environment variable comes first; nothing is fetched then. Otherwise the files of a
pinned commit of the hub's repository are taken from the hub's cache or fetched into it (``HF_ENDPOINT``, ``HF_HOME``
and ``HF_TOKEN`` are heeded). Only Parquet files are taken; no code of a repository is run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepseek.artifacts import snapshot
from deepseek.errors import DataError, FetchError

_BATCH_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """A repository of data sets at one commit, and the environment variable that names a folder to read instead."""

    repository: str
    revision: str
    variable: str
    folder_hint: str
    """What the folder should look like, for error messages."""

    def origin(self, part: str) -> str:
        """A card's ``origin``: repository, commit and folder."""
        return f"hf:{self.repository}@{self.revision}/{part}"

    def folder(self) -> Path | None:
        """The user's folder, if the environment variable names one.

        Raises:
            DataError: it does not exist.
        """
        named = os.environ.get(self.variable, "").strip()
        if not named:
            return None
        path = Path(named).expanduser()
        if not path.is_dir():
            raise DataError(f"{self.variable}: expected {self.folder_hint}, received {named!r}, which is no folder")
        return path

    def parquet(self, root: Path | None, part: str, split: str) -> list[Path]:
        """The Parquet files of a split, in a copy of the repository or fetched from the hub.

        Raises:
            FetchError: the hub's files are neither in its cache nor to be had.
        """
        pattern = f"{part}/{split}-*.parquet"
        if root is not None:
            return sorted(root.glob(pattern))
        hint = f"For this data set, you can also set {self.variable} to {self.folder_hint}."
        found = snapshot(
            self.repository, self.revision, alternative=hint, kind="dataset", patterns=[f"{part}/*.parquet"]
        )
        files = sorted(found.glob(pattern))
        if not files:
            raise FetchError(f"{self.repository} has no {pattern} at {self.revision}; {hint}")
        return files


def parquet_rows(path: Path, columns: Sequence[str], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, the columns that are asked for; ``label`` as its name, null where it is -1.

    Raises:
        DataError: a column is missing, or the file names its classes otherwise than ``labels``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        if missing := [name for name in columns if name not in schema.names]:
            raise DataError(f"{path}: expected the columns {', '.join(columns)}, received none called {missing[0]!r}")
        _check_names(path, schema.metadata or {}, labels)
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns)):
            for row in batch.to_pylist():
                if "label" in row:
                    row["label"] = _label(path, row["label"], labels)
                yield row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _label(path: Path, value: Any, labels: Sequence[str]) -> Any:
    if value is None or value == -1:
        return None
    if not labels:
        return float(value)
    if isinstance(value, int) and 0 <= value < len(labels):
        return labels[value]
    raise DataError(f"{path}: expected a label from 0 to {len(labels) - 1}, received {value!r}")


def _check_names(path: Path, metadata: Mapping[bytes, bytes], labels: Sequence[str]) -> None:
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    names = (features.get("label") or {}).get("names")
    if names and list(names) != list(labels):
        raise DataError(f"{path}: expected the classes {', '.join(labels)}, received {', '.join(names)}")


def identities(paths: Sequence[Path]) -> dict[str, Any]:
    """What tells these files from others: path, size, time and a hash of their ends."""
    from deepseek.data.sources.base import file_identity

    return {str(path): file_identity(path) for path in paths}

"""Which source reads what: by file suffix, by format name, or by the name of a data set."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepseek.data.datasets import DATASETS
from deepseek.data.sources.base import Source
from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.plugins.registry import Registry

SOURCES: Registry[Callable[..., Source]] = Registry(
    "source",
    {
        "csv": "deepseek.data.sources.delimited:CSV",
        "jsonl": "deepseek.data.sources.jsonl:JSONL",
        "parquet": "deepseek.data.sources.parquet:Parquet",
        "tsv": "deepseek.data.sources.delimited:TSV",
    },
)
"""Formats by name; a format is called with a path and keyword options, and a file's suffix is looked up here."""

_SUFFIXES = {"ndjson": "jsonl", "json": "jsonl", "pq": "parquet", "tab": "tsv"}


def open_source(path_or_name: str | Path, *, format: str | None = None, **options: Any) -> Source:  # noqa: A002
    """Open a file (by its suffix, or as ``format``) or a named data set such as ``"hutto-movie-reviews"``.

    ``options`` go to the format: ``encoding``, ``columns`` and ``schema`` for CSV and TSV; ``encoding`` and ``schema``
    for JSONL. Nothing is read yet.

    Raises:
        DataError: the suffix is not known and no format is given.
        UnknownNameError: the format or data set is not known.
        ConfigError: the format does not have such an option.
    """
    text = str(path_or_name)
    suffix = Path(text).suffix[1:].lower()
    named = isinstance(path_or_name, str) and not suffix and os.sep not in text and not Path(text).exists()
    if format is None and (text in DATASETS or named):
        if text not in DATASETS:
            raise UnknownNameError("data set", text, DATASETS, hint="For a file, give a path with a suffix or format=.")
        from deepseek.data.sources.named import DatasetSource

        if options:
            raise ConfigError(f"the data set {text!r} takes no options, received {', '.join(sorted(options))}")
        return DatasetSource(DATASETS.get(text))
    chosen = format or _SUFFIXES.get(suffix, suffix)
    if format is None and chosen not in SOURCES:
        raise DataError(
            f"{text}: the suffix {'.' + suffix if suffix else '(none)'!r} is of no known format; give format= one of "
            f"{', '.join(SOURCES)}"
        )
    factory = SOURCES.get(chosen)
    accepted = inspect.signature(factory).parameters
    for option in options:
        if option not in accepted and not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
            raise ConfigError(
                f"{text}: format {chosen!r} has no option {option!r}; it has: {', '.join(list(accepted)[1:])}"
            )
    return factory(path_or_name, **options)

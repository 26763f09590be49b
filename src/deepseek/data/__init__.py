"""Layer 1, data: versioned tables, sources, real data sets, cleaning, splits and reference statistics.

Everything here is lazy: importing this package loads neither Lance nor Arrow; the first use of a name does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.data import datasets
    from deepseek.data.cleaning import CleaningConfig, CleaningReport, CleaningResult, clean, clean_table
    from deepseek.data.profiles import profile
    from deepseek.data.sources import SOURCES, IngestReport, Source, ingest, open_source
    from deepseek.data.splits import SplitConfig, assign_splits
    from deepseek.data.table import Table, TableVersion

_HOMES = {
    "CleaningConfig": "deepseek.data.cleaning",
    "CleaningReport": "deepseek.data.cleaning",
    "CleaningResult": "deepseek.data.cleaning",
    "IngestReport": "deepseek.data.sources",
    "SOURCES": "deepseek.data.sources",
    "Source": "deepseek.data.sources",
    "SplitConfig": "deepseek.data.splits",
    "Table": "deepseek.data.table",
    "TableVersion": "deepseek.data.table",
    "assign_splits": "deepseek.data.splits",
    "clean": "deepseek.data.cleaning",
    "clean_table": "deepseek.data.cleaning",
    "ingest": "deepseek.data.sources",
    "open_source": "deepseek.data.sources",
    "profile": "deepseek.data.profiles",
}

__all__ = [
    "SOURCES",
    "CleaningConfig",
    "CleaningReport",
    "CleaningResult",
    "IngestReport",
    "Source",
    "SplitConfig",
    "Table",
    "TableVersion",
    "assign_splits",
    "clean",
    "clean_table",
    "datasets",
    "ingest",
    "open_source",
    "profile",
]


def __getattr__(name: str) -> Any:
    if name == "datasets":
        return importlib.import_module("deepseek.data.datasets")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

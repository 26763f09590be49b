"""Layer 1, data: the feature store for structured and unstructured data.

Versioned tables of scalars, text, vectors and blobs; sources and real data sets; cleaning, splits, profiles and drift;
feature views with point-in-time history and online reads; access for training. Everything here is lazy: importing this
package loads neither Lance nor Arrow; the first use of a name does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.data import datasets
    from deepseek.data.cleaning import CleaningConfig, CleaningReport, CleaningResult, clean, clean_table
    from deepseek.data.engines import ENGINES, Engine, get_engine
    from deepseek.data.features import FeatureStore, FeatureView, OnDemand, on_demand
    from deepseek.data.features.materialization import MaterializationReport
    from deepseek.data.features.online import ONLINE_STORES, OnlineStore, open_online_store
    from deepseek.data.loading import Dataset, Loader, Sampler
    from deepseek.data.profiles import DriftConfig, DriftMonitor, DriftReport, profile
    from deepseek.data.profiles.drift import drift
    from deepseek.data.query import sql
    from deepseek.data.sources import SOURCES, IngestReport, Source, ingest, open_source
    from deepseek.data.splits import SplitConfig, assign_splits, assign_splits_table
    from deepseek.data.table import (
        CleanupReport,
        CompactionReport,
        IndexInfo,
        Table,
        TableVersion,
        UpsertReport,
        blob_field,
        vector_field,
    )

_HOMES = {
    "CleaningConfig": "deepseek.data.cleaning",
    "CleaningReport": "deepseek.data.cleaning",
    "CleaningResult": "deepseek.data.cleaning",
    "CleanupReport": "deepseek.data.table",
    "CompactionReport": "deepseek.data.table",
    "Dataset": "deepseek.data.loading",
    "DriftConfig": "deepseek.data.profiles",
    "DriftMonitor": "deepseek.data.profiles",
    "DriftReport": "deepseek.data.profiles",
    "ENGINES": "deepseek.data.engines",
    "Engine": "deepseek.data.engines",
    "FeatureStore": "deepseek.data.features",
    "FeatureView": "deepseek.data.features",
    "IndexInfo": "deepseek.data.table",
    "IngestReport": "deepseek.data.sources",
    "Loader": "deepseek.data.loading",
    "MaterializationReport": "deepseek.data.features.materialization",
    "ONLINE_STORES": "deepseek.data.features.online",
    "OnDemand": "deepseek.data.features",
    "OnlineStore": "deepseek.data.features.online",
    "SOURCES": "deepseek.data.sources",
    "Sampler": "deepseek.data.loading",
    "Source": "deepseek.data.sources",
    "SplitConfig": "deepseek.data.splits",
    "Table": "deepseek.data.table",
    "TableVersion": "deepseek.data.table",
    "UpsertReport": "deepseek.data.table",
    "assign_splits": "deepseek.data.splits",
    "assign_splits_table": "deepseek.data.splits",
    "blob_field": "deepseek.data.table",
    "clean": "deepseek.data.cleaning",
    "clean_table": "deepseek.data.cleaning",
    "drift": "deepseek.data.profiles.drift",
    "get_engine": "deepseek.data.engines",
    "ingest": "deepseek.data.sources",
    "on_demand": "deepseek.data.features",
    "open_online_store": "deepseek.data.features.online",
    "open_source": "deepseek.data.sources",
    "profile": "deepseek.data.profiles",
    "sql": "deepseek.data.query",
    "vector_field": "deepseek.data.table",
}

__all__ = [
    "ENGINES",
    "ONLINE_STORES",
    "SOURCES",
    "CleaningConfig",
    "CleaningReport",
    "CleaningResult",
    "CleanupReport",
    "CompactionReport",
    "Dataset",
    "DriftConfig",
    "DriftMonitor",
    "DriftReport",
    "Engine",
    "FeatureStore",
    "FeatureView",
    "IndexInfo",
    "IngestReport",
    "Loader",
    "MaterializationReport",
    "OnDemand",
    "OnlineStore",
    "Sampler",
    "Source",
    "SplitConfig",
    "Table",
    "TableVersion",
    "UpsertReport",
    "assign_splits",
    "assign_splits_table",
    "blob_field",
    "clean",
    "clean_table",
    "datasets",
    "drift",
    "get_engine",
    "ingest",
    "on_demand",
    "open_online_store",
    "open_source",
    "profile",
    "sql",
    "vector_field",
]


def __getattr__(name: str) -> Any:
    if name == "datasets":
        return importlib.import_module("deepseek.data.datasets")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

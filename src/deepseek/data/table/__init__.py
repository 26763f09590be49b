"""Versioned tables: Lance data sets behind a small API."""

from deepseek.data.table.blobs import blob_field, vector_field
from deepseek.data.table.indexing import IndexInfo
from deepseek.data.table.maintenance import CleanupReport, CompactionReport
from deepseek.data.table.table import Table
from deepseek.data.table.versioning import TableVersion
from deepseek.data.table.writing import UpsertReport

__all__ = [
    "CleanupReport",
    "CompactionReport",
    "IndexInfo",
    "Table",
    "TableVersion",
    "UpsertReport",
    "blob_field",
    "vector_field",
]

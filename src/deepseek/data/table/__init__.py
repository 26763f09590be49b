"""Versioned tables: Lance data sets behind a small API."""

from deepseek.data.table.table import Table, TableVersion

__all__ = ["Table", "TableVersion"]

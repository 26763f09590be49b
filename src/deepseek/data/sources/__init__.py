"""Sources: files and named data sets that rows are read from."""

from deepseek.data.sources.base import Reject, Source, refuse
from deepseek.data.sources.ingestion import IngestReport, ingest
from deepseek.data.sources.registry import SOURCES, open_source

__all__ = ["SOURCES", "IngestReport", "Reject", "Source", "ingest", "open_source", "refuse"]

"""Sources: whatever rows are read from (files, folders, objects in memory, queries, named data sets), and ingestion."""

from deepseek.data.sources.base import Chunk, Position, Reject, Source, refuse
from deepseek.data.sources.files import Files
from deepseek.data.sources.ingestion import IngestReport, ingest
from deepseek.data.sources.registry import SOURCES, open_source

__all__ = [
    "SOURCES",
    "Chunk",
    "Files",
    "IngestReport",
    "Position",
    "Reject",
    "Source",
    "ingest",
    "open_source",
    "refuse",
]

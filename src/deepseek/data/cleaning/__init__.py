"""Cleaning: quality checks, duplicates, contradictions and leakage, with a report and nothing lost silently."""

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.pipeline import REJECT_FIELDS, CleaningResult, clean, clean_table
from deepseek.data.cleaning.report import CleaningReport, Example, StepReport

__all__ = [
    "REJECT_FIELDS",
    "CleaningConfig",
    "CleaningReport",
    "CleaningResult",
    "Example",
    "StepReport",
    "clean",
    "clean_table",
]

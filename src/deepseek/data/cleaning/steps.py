"""Which steps a configuration asks for, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.leakage import leakage
from deepseek.data.cleaning.near_duplicates import near_duplicates
from deepseek.data.cleaning.repeats import conflicting_labels, exact_duplicates
from deepseek.data.cleaning.row_checks import check_rows
from deepseek.data.cleaning.step import Columns, RowStep, TableStep


def row_steps(config: CleaningConfig, columns: Columns) -> Iterator[tuple[str, RowStep]]:
    """The steps that look at one row at a time; the functions must be importable by name."""
    yield "row checks", check_rows


def table_steps(config: CleaningConfig, columns: Columns) -> Iterator[tuple[str, TableStep]]:
    """The steps that compare rows; they run after all row steps."""
    if columns.text is not None:
        if config.exact_duplicates:
            yield "exact duplicates", exact_duplicates
        if config.conflicting_labels is not None and columns.label is not None:
            yield "conflicting labels", conflicting_labels
        if config.near_duplicates is not None:
            yield "near duplicates", near_duplicates
        if config.leakage and columns.split is not None:
            yield "leakage", leakage

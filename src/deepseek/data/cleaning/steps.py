"""Which steps a configuration asks for, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.row_checks import check_rows
from deepseek.data.cleaning.step import Columns, RowStep, TableStep


def row_steps(config: CleaningConfig, columns: Columns) -> Iterator[tuple[str, RowStep]]:
    """The steps that look at one row at a time; the functions must be importable by name."""
    yield "row checks", check_rows


def table_steps(config: CleaningConfig, columns: Columns) -> Iterator[tuple[str, TableStep]]:
    """The steps that compare rows; they run after all row steps."""
    return iter(())

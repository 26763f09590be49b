"""Which steps a configuration asks for, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.image_repeats import conflicting_images, exact_images, image_leakage, near_images
from deepseek.data.cleaning.images import check_images
from deepseek.data.cleaning.leakage import leakage
from deepseek.data.cleaning.model_steps import balance, label_errors, outliers
from deepseek.data.cleaning.near_duplicates import near_duplicates
from deepseek.data.cleaning.repeats import conflicting_labels, exact_duplicates
from deepseek.data.cleaning.row_checks import check_rows
from deepseek.data.cleaning.step import Columns, RowStep, TableStep
from deepseek.data.cleaning.text_steps import check_language, check_quality, handle_pii
from deepseek.data.cleaning.vectors import check_vectors, near_vectors, vector_leakage


def row_steps(config: CleaningConfig, columns: Columns) -> Iterator[tuple[str, RowStep]]:
    """The steps that look at one row at a time; the functions must be importable by name."""
    if config.quality is not None and columns.text is not None:
        yield "quality", check_quality
    yield "row checks", check_rows
    if columns.text is not None:
        if config.language is not None:
            yield "language", check_language
        if config.pii is not None:
            yield "personal data", handle_pii
    if columns.image is not None:
        yield "image checks", check_images
    if columns.vector is not None:
        yield "vector checks", check_vectors


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
    if columns.image is not None:
        yield from _image_steps(config, columns)
    if columns.vector is not None and config.near_vectors is not None:
        yield "near duplicate vectors", near_vectors
        if config.leakage and columns.split is not None:
            yield "vector leakage", vector_leakage
    if config.outliers is not None:
        yield "outliers", outliers
    if columns.label is not None:
        if config.label_errors is not None:
            yield "label errors", label_errors
        if config.balance is not None:
            yield "class balance", balance


def _image_steps(config: CleaningConfig, columns: Columns) -> Iterator[tuple[str, TableStep]]:
    if config.exact_duplicates:
        yield "exact duplicate images", exact_images
    if config.conflicting_labels is not None and columns.label is not None:
        yield "conflicting image labels", conflicting_images
    if config.near_images is not None:
        yield "near duplicate images", near_images
    if config.leakage and columns.split is not None:
        yield "image leakage", image_leakage

"""The first step: rows that are wrong by themselves. Missing, empty, too short, too long, or without a label."""

from __future__ import annotations

import unicodedata

import pyarrow as pa

from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.step import Columns, Rejection, StepResult, values_of


def normalised(text: str) -> str:
    """``text`` in Unicode NFC with single spaces, trimmed."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def check_rows(table: pa.Table, columns: Columns, config: CleaningConfig) -> StepResult:
    """Normalise texts, then reject those outside the length bounds and rows without a label."""
    labels = values_of(table, columns.label)
    texts: list[str | None] = values_of(table, columns.text)
    rejections = []
    changed = 0
    for row, text in enumerate(texts):
        new, reason = (None, "") if columns.text is None else _checked(text, config)
        if not reason and columns.label is not None and _unlabelled(labels[row]):
            reason = "no label"
        if reason:
            rejections.append(Rejection(row=row, reason=reason))
        elif new != text:
            texts[row] = new
            changed += 1
    if changed:
        index = table.schema.get_field_index(columns.text)
        field = table.schema.field(index)
        table = table.set_column(index, field, pa.array(texts, field.type))
    return StepResult(table=table, rejections=rejections, changed=changed)


def _checked(text: str | None, config: CleaningConfig) -> tuple[str | None, str]:
    """The text as it should be, and what is wrong with it."""
    if text is None:
        return None, "missing text"
    new = normalised(text) if config.normalise else text
    if len(new) > config.max_chars and config.on_too_long == "truncate":
        new = new[: config.max_chars]
        new = new.rstrip() if config.normalise else new
    return new, _problem(new, config)


def _problem(text: str, config: CleaningConfig) -> str:
    if not text or text.isspace():
        return "empty text"
    if len(text) < config.min_chars:
        return f"shorter than {config.min_chars} characters"
    if len(text) > config.max_chars:
        return f"longer than {config.max_chars} characters"
    return ""


def _unlabelled(label: object) -> bool:
    return label is None or (isinstance(label, str) and not label.strip()) or label != label  # NaN

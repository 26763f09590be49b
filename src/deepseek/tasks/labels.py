"""Labels as names and as ids, and what is said of one that is not known."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from deepseek.errors import DataError, nearest

_SHOWN = 20


def named(label: str, labels: Collection[str], number: int, column: str) -> str:
    """``label`` if it is one of ``labels``; raises :class:`DataError` with the row's number and the known ones."""
    if label in labels:
        return label
    close = nearest(label, labels)
    shown = ", ".join(map(repr, sorted(labels)[:_SHOWN]))
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    guess = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise DataError(f"row {number}: expected one of {shown}{more} in {column!r}, received {label!r}{guess}")


def id_of(label: str, ids: Mapping[str, int], number: int, column: str) -> int:
    """The id of a label; raises :class:`DataError` as :func:`named` does."""
    return ids[named(label, ids, number, column)]


def label_options(labels: Sequence[str]) -> dict[str, Any]:
    """The fields of a transformers config that name a model's classes."""
    names = dict(enumerate(labels))
    return {"num_labels": len(names), "id2label": names, "label2id": {label: i for i, label in names.items()}}
